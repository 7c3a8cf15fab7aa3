use std::fs;

use coracle_api::report::TerminationReason;
use proptest::{collection::vec, prelude::*};

use super::*;

/// The first bytes of a good qcow2 image of 1 GiB.
fn qcow2() -> Vec<u8> {
    let mut head = vec![0; 112];
    head[..4].copy_from_slice(&MAGIC);
    head[7] = 3;
    head[23] = 16;
    head[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    head[39] = 2;
    head[40..48].copy_from_slice(&0x10000_u64.to_be_bytes());
    head[103] = 112;
    head
}

#[test]
fn a_format_is_told_by_the_first_bytes() {
    let size = 1 << 20;
    assert_eq!(format("a", b"", size).expect("good"), (Format::Raw, size));
    let boot = [&[0xfa, 0xeb][..], &[0; 510]].concat();
    assert_eq!(format("a", &boot, size).expect("good"), (Format::Raw, size));
    let image = format("a", &qcow2(), size).expect("good");
    assert_eq!(image, (Format::Qcow2, 1 << 30));
}

#[test]
fn what_cannot_be_used_as_it_is_says_what_to_do() {
    let change = |at: usize, byte: u8| {
        let mut head = qcow2();
        head[at] = byte;
        head
    };
    let rows: [(Vec<u8>, &str); 7] = [
        (b"KDMV".to_vec(), "a VMDK image: convert it"),
        (b"QED\0".to_vec(), "a QED image: convert it"),
        (vec![0x1f, 0x8b, 8], "packed with gzip"),
        (vec![0x28, 0xb5, 0x2f, 0xfd], "packed with zstd"),
        (change(15, 1), "it has a backing file: flatten it"),
        (change(79, 4), "its data is in another file: flatten it"),
        (change(35, 1), "it is encrypted"),
    ];
    for (head, why) in rows {
        let error = format("disk/a", &head, 1 << 20).expect_err(why);
        let said = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        assert!(said.contains(why) && said.contains("disk/a"), "{said}");
        assert_eq!(error.reason(), TerminationReason::DiskInvalid);
    }
}

proptest! {
    /// A stranger's image is raw, qcow2 or refused; and only what qcow2 says
    /// itself decides another size than that of the file.
    #[test]
    fn any_bytes_have_a_format_or_an_error(head in vec(any::<u8>(), 0..200), magic in any::<bool>(), bytes in 1_u64..) {
        let head = if magic { [&MAGIC[..], &head[..]].concat() } else { head };
        match format("a", &head, bytes) {
            Ok((Format::Raw, size)) => prop_assert!(size == bytes && !head.starts_with(&MAGIC)),
            Ok((Format::Qcow2, _)) => prop_assert!(head.starts_with(&MAGIC)),
            Err(_) => {}
        }
    }

    /// A path never leads out of the container image.
    #[test]
    fn a_path_stays_in_the_image(path in "[a-z./]{0,12}") {
        let root = tempfile::tempdir().expect("makes a directory");
        fs::create_dir(root.path().join("in")).expect("makes a directory");
        let root = root.path().join("in");
        if let Ok(found) = named(root.to_str().expect("is UTF-8"), &path) {
            let inside = fs::canonicalize(root.join(found)).expect("is there");
            prop_assert!(inside.starts_with(&root));
        }
    }
}
