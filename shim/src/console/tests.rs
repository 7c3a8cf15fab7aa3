use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn read_to_end(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("read");
    bytes
}

#[tokio::test]
async fn a_late_client_gets_what_came_before_and_what_comes_after() {
    let (ours, mut guest) = UnixStream::pair().expect("pair");
    let (console, pump) = console(ours);
    let pump = tokio::spawn(pump.run());
    guest.write_all(b"early ").await.expect("write");
    let mut ring = console.ring.clone();
    ring.wait_for(|ring| ring.take(&mut 0, 100).bytes == b"early ")
        .await
        .expect("early");

    let (theirs, mut client) = UnixStream::pair().expect("pair");
    let served = tokio::spawn(console.clone().serve(theirs, Access::ListenAndSend));
    client.write_all(b"hello").await.expect("write");
    let mut input = [0; 5];
    guest.read_exact(&mut input).await.expect("input");
    assert_eq!(&input, b"hello");
    guest.write_all(b"late").await.expect("write");
    drop(guest);

    assert_eq!(read_to_end(&mut client).await, b"early late");
    pump.await.expect("pump").expect("pump");
    served.await.expect("served");
}

#[tokio::test]
async fn a_client_that_has_nothing_to_say_goes_on_listening() {
    let (ours, mut guest) = UnixStream::pair().expect("pair");
    let (console, pump) = console(ours);
    let pump = tokio::spawn(pump.run());
    let (theirs, mut client) = UnixStream::pair().expect("pair");
    let served = tokio::spawn(console.serve(theirs, Access::Listen));
    client.write_all(b"not for the guest").await.expect("write");
    client.shutdown().await.expect("shutdown");
    guest.write_all(b"words").await.expect("write");
    guest.shutdown().await.expect("shutdown");
    assert_eq!(read_to_end(&mut client).await, b"words");
    assert_eq!(read_to_end(&mut guest).await, b"");
    pump.await.expect("pump").expect("pump");
    served.await.expect("served");
}

#[tokio::test]
async fn an_output_nobody_reads_loses_bytes_with_a_marker_and_the_guest_goes_on() {
    let (ours, mut guest) = UnixStream::pair().expect("pair");
    let (console, pump) = console(ours);
    let pump = tokio::spawn(pump.run());
    let (read, write) = io::pipe().expect("pipe");
    let output = Output::new(write.as_fd()).expect("output");
    drop(write);
    let copied = tokio::spawn(async move { console.copy_to(output).await });
    // Nobody reads the pipe, and the guest writes far more than pipe and ring
    // hold together.
    let line = [b'a'; 4096];
    for _ in 0..128 {
        guest
            .write_all(&line)
            .await
            .expect("the guest is never blocked");
    }
    guest.write_all(b"the end").await.expect("write");
    drop(guest);
    pump.await.expect("pump").expect("pump");

    let reader = std::thread::spawn(move || io::read_to_string(read).expect("text"));
    copied.await.expect("copied").expect("copied");
    let text = reader.join().expect("reader");
    assert!(text.ends_with("the end"));
    let mut pieces = text.split("\r\n[coracle: ");
    let mut bytes = pieces.next().map_or(0, str::len);
    let mut markers = 0;
    for piece in pieces {
        let (dropped, after) = piece
            .split_once(" bytes of console output were dropped here]\r\n")
            .expect("a marker");
        bytes += dropped.parse::<usize>().expect("a number") + after.len();
        markers += 1;
    }
    assert_eq!(
        bytes,
        128 * 4096 + "the end".len(),
        "every byte is there or counted"
    );
    assert!(markers > 0);
}

#[tokio::test]
async fn a_burst_reaches_an_output_that_takes_it_without_loss() {
    let (ours, mut guest) = UnixStream::pair().expect("pair");
    let (console, pump) = console(ours);
    let pump = tokio::spawn(pump.run());
    let file = tempfile::tempfile().expect("file");
    let output = Output::new(file.as_fd()).expect("output");
    let copied = tokio::spawn(async move { console.copy_to(output).await });
    for _ in 0..256 {
        guest.write_all(&[b'a'; 4096]).await.expect("write");
    }
    drop(guest);
    pump.await.expect("pump").expect("pump");
    copied.await.expect("copied").expect("copied");
    assert_eq!(file.metadata().expect("metadata").len(), 256 * 4096);
}
