//! A real private containerd: started, shared, killed, stopped, and nothing
//! left of it.

use std::path::Path;
use std::time::Duration;

use coracle::containerd::{self, ContainerdError, Settings};
use coracle::paths::Paths;
use coracle::{images, process, record, teardown};
use tempfile::TempDir;

/// A state directory and an image store of the test's own. In /run because of
/// the length of a socket's path.
struct Machine {
    _dir: TempDir,
    paths: Paths,
}

/// Says why the test cannot run here.
fn machine() -> Option<Machine> {
    let skip = |why: &str| {
        let line = format!("skipped: {why}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    };
    if !nix::unistd::geteuid().is_root() {
        skip("a private containerd needs root");
        return None;
    }
    for program in ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc"] {
        if !Path::new(program).exists() {
            skip(&format!("{program} is not installed"));
            return None;
        }
    }
    if let Err(error) = coracle::cni::plugin_dir() {
        skip(&error.to_string());
        return None;
    }
    let dir = tempfile::Builder::new()
        .prefix("coracle-cli.")
        .tempdir_in("/run")
        .expect("a directory");
    let paths = Paths::new(&dir.path().join("state"), &dir.path().join("cache"), None);
    Some(Machine { _dir: dir, paths })
}

fn settings() -> Settings {
    Settings {
        pause_image: images::reference("pause"),
        pod_cidr: "10.89.128.0/17".parse().expect("a subnet"),
    }
}

/// Processes with the test's directory on their command line.
fn processes(paths: &Paths) -> usize {
    let dir = paths.state().display().to_string();
    process::count(|args| args.iter().any(|arg| arg.contains(&dir)))
}

fn mounts(paths: &Paths) -> usize {
    let dir = paths.state().display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().filter(|line| line.contains(&dir)).count()
}

#[tokio::test]
async fn it_is_started_once_and_stopped_without_a_trace() {
    let Some(machine) = machine() else { return };
    let paths = &machine.paths;
    let lock = record::lock(paths).await.expect("the lock");
    let first = containerd::ensure(paths, &settings())
        .await
        .expect("starts");
    assert!(first.started);
    let version = first.cri.version().await.expect("answers");
    assert_eq!(version.name, "containerd");
    let second = containerd::ensure(paths, &settings())
        .await
        .expect("is there");
    assert!(!second.started, "one containerd per state directory");
    assert!(containerd::is_running(paths));
    teardown::stop_if_unused(paths, &lock).await.expect("stops");
    assert!(!containerd::is_running(paths));
    assert_eq!((processes(paths), mounts(paths)), (0, 0));
    assert!(!first.socket.exists());
}

#[tokio::test]
async fn one_that_is_gone_is_started_again() {
    let Some(machine) = machine() else { return };
    let paths = &machine.paths;
    let _lock = record::lock(paths).await.expect("the lock");
    containerd::ensure(paths, &settings())
        .await
        .expect("starts");
    containerd::stop(paths).await;
    let again = containerd::ensure(paths, &settings())
        .await
        .expect("starts again");
    assert!(again.started);
    containerd::stop(paths).await;
    assert_eq!(processes(paths), 0);
}

#[tokio::test]
async fn an_image_store_in_use_is_not_waited_for() {
    let Some(machine) = machine() else { return };
    let paths = &machine.paths;
    containerd::ensure(paths, &settings())
        .await
        .expect("starts");
    let other = Paths::new(
        &paths.state().with_file_name("other"),
        Path::new("/nowhere"),
        Some(paths.containerd_root()),
    );
    let error = containerd::ensure(&other, &settings())
        .await
        .expect_err("refused");
    containerd::stop(paths).await;
    assert!(
        matches!(error, ContainerdError::RootInUse { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--containerd-root"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_nowhere_says_how_to_make_it() {
    let Some(machine) = machine() else { return };
    let paths = &machine.paths;
    let containerd = containerd::ensure(paths, &settings())
        .await
        .expect("starts");
    let wanted = images::Wanted {
        reference: images::reference("vm"),
        file: "vm.tar",
        given: None,
        option: "--image-archive",
        directories: vec![paths.image_cache()],
    };
    let error = images::ensure(&containerd, &wanted)
        .await
        .expect_err("not there");
    containerd::stop(paths).await;
    let text = error.to_string();
    assert!(
        text.contains("image not there") && text.contains("make images"),
        "{text}"
    );
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_an_error_and_not_a_wait() {
    let waited = containerd::existing(Path::new("/nonexistent/containerd.sock"));
    let result = tokio::time::timeout(Duration::from_secs(30), waited)
        .await
        .expect("answers");
    assert!(matches!(result, Err(ContainerdError::Silent { .. })));
}
