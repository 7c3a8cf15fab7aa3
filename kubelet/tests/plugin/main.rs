//! The kubelet's side against a plugin over real sockets.

use std::path::Path;
use std::time::Duration;

use coracle_kubelet::{Device, Faults, Kubelet, KubeletError, Options, Takeover};
use coracle_proto::deviceplugin::{DevicePluginOptions, KUBELET_SOCKET};

mod thing;

use thing::{Running, register};

const RESOURCE: &str = "example.com/thing";
/// Longer than anything takes; only a failure waits so long.
const LIMIT: Duration = Duration::from_secs(20);

fn healthy(devices: &[Device]) -> usize {
    devices.iter().filter(|device| device.healthy).count()
}

async fn kubelet(dir: &Path, faults: Faults) -> Kubelet {
    Kubelet::serve(
        dir,
        Options {
            faults,
            ..Options::default()
        },
    )
    .await
    .expect("serves")
}

#[tokio::test]
async fn devices_are_given_out_once_until_they_are_released() {
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet = kubelet(dir.path(), Faults::default()).await;
    let thing = Running::start(dir.path(), "thing.sock", DevicePluginOptions::default());
    thing.lists(&[("a", true), ("b", false), ("c", true)]);
    thing.register().await.expect("registers");
    let devices = kubelet
        .wait_for(RESOURCE, |d| d.len() == 3, LIMIT)
        .await
        .expect("listed");
    assert_eq!(
        devices[0],
        Device {
            id: "a".into(),
            healthy: true,
            numa: vec![1]
        }
    );

    let first = kubelet.allocate(RESOURCE, 1).await.expect("a");
    assert_eq!(first.ids, ["a"]);
    assert_eq!(first.response.envs["THING"], "a");
    assert!(matches!(
        kubelet.allocate(RESOURCE, 2).await,
        Err(KubeletError::NotEnough {
            wanted: 2,
            free: 1,
            unhealthy: 1,
            held: 1,
            ..
        })
    ));
    assert_eq!(kubelet.allocate(RESOURCE, 1).await.expect("c").ids, ["c"]);
    kubelet.release(RESOURCE, &first.ids);
    assert_eq!(
        kubelet.allocate(RESOURCE, 1).await.expect("a again").ids,
        ["a"]
    );
    kubelet.release(RESOURCE, &["a".into(), "c".into()]);
    kubelet.adopt(RESOURCE, &["a".into()]);
    assert_eq!(
        kubelet.allocate(RESOURCE, 1).await.expect("not a").ids,
        ["c"]
    );
    kubelet.stop().await;
    assert!(!dir.path().join(KUBELET_SOCKET).exists());
}

#[tokio::test]
async fn preference_and_pre_start_are_asked_for_when_offered() {
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet = kubelet(dir.path(), Faults::default()).await;
    let options = DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    let thing = Running::start(dir.path(), "thing.sock", options);
    thing.lists(&[("a", true), ("b", true), ("c", true)]);
    thing.register().await.expect("registers");
    kubelet
        .wait_for(RESOURCE, |d| healthy(d) == 3, LIMIT)
        .await
        .expect("listed");
    assert_eq!(
        kubelet.allocate(RESOURCE, 2).await.expect("two").ids,
        ["c", "b"]
    );
    assert_eq!(*thing.pre_started.lock().expect("no panic"), ["c", "b"]);
    kubelet
        .pre_start(RESOURCE, &["c".into()])
        .await
        .expect("again");
    assert_eq!(
        *thing.pre_started.lock().expect("no panic"),
        ["c", "b", "c"]
    );
}

#[tokio::test]
async fn an_error_of_the_plugin_reaches_the_caller_and_holds_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet = kubelet(dir.path(), Faults::default()).await;
    let thing = Running::start(dir.path(), "thing.sock", DevicePluginOptions::default());
    thing.lists(&[("bad", true)]);
    thing.register().await.expect("registers");
    kubelet
        .wait_for(RESOURCE, |d| healthy(d) == 1, LIMIT)
        .await
        .expect("listed");
    for _ in 0..2 {
        let error = kubelet.allocate(RESOURCE, 1).await.expect_err("bad");
        assert_eq!(
            error.to_string(),
            "Allocate of example.com/thing failed: bad is bad"
        );
    }
    let error = kubelet
        .allocate("example.com/other", 1)
        .await
        .expect_err("unknown");
    assert!(
        matches!(error, KubeletError::UnknownResource { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_plugin() {
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet = kubelet(dir.path(), Faults::default()).await;
    let thing = Running::start(dir.path(), "thing.sock", DevicePluginOptions::default());
    thing.lists(&[("a", true)]);
    thing.register().await.expect("registers");
    kubelet
        .wait_for(RESOURCE, |d| healthy(d) == 1, LIMIT)
        .await
        .expect("listed");
    thing.streams.cancel();
    let gone = kubelet
        .wait_for(RESOURCE, |d| healthy(d) == 0, LIMIT)
        .await
        .expect("gone");
    assert_eq!(gone.len(), 1, "the capacity stays");
    let error = kubelet.allocate(RESOURCE, 1).await.expect_err("no plugin");
    assert!(
        matches!(error, KubeletError::Disconnected { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_registration_wins_unless_the_fault_says_otherwise() {
    for stale_stream_disconnects in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Faults {
            stale_stream_disconnects,
            ..Faults::default()
        };
        let kubelet = kubelet(dir.path(), faults).await;
        let old = Running::start(dir.path(), "old.sock", DevicePluginOptions::default());
        old.lists(&[("a", true)]);
        old.register().await.expect("registers");
        kubelet
            .wait_for(RESOURCE, |d| healthy(d) == 1, LIMIT)
            .await
            .expect("listed");
        let new = Running::start(dir.path(), "new.sock", DevicePluginOptions::default());
        new.lists(&[("b", true), ("c", true)]);
        new.register().await.expect("registers");
        kubelet
            .wait_for(RESOURCE, |d| healthy(d) == 2, LIMIT)
            .await
            .expect("the new list");
        old.streams.cancel();
        if stale_stream_disconnects {
            kubelet
                .wait_for(RESOURCE, |d| healthy(d) == 0, LIMIT)
                .await
                .expect("disconnected");
        } else {
            assert_eq!(
                kubelet.allocate(RESOURCE, 2).await.expect("both").ids,
                ["b", "c"]
            );
        }
    }
}

#[tokio::test]
async fn bad_registrations_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet = kubelet(
        dir.path(),
        Faults {
            refuse: 1,
            ..Faults::default()
        },
    )
    .await;
    let thing = Running::start(dir.path(), "thing.sock", DevicePluginOptions::default());
    let status = thing.register().await.expect_err("refused once");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    for (version, endpoint, name, part) in [
        ("v1alpha", "thing.sock", RESOURCE, "only v1beta1"),
        ("v1beta1", "../thing.sock", RESOURCE, "not a file name"),
        ("v1beta1", "thing.sock", "thing", "extended resource"),
        ("v1beta1", "absent.sock", RESOURCE, "failed to dial"),
    ] {
        let status = register(dir.path(), version, endpoint, name)
            .await
            .expect_err(part);
        assert!(status.message().contains(part), "{}", status.message());
    }
    thing.register().await.expect("now it registers");
    assert_eq!(kubelet.registrations(), 6);
}

#[tokio::test]
async fn sockets_of_plugins_go_or_stay_with_the_takeover() {
    for (takeover, stays) in [
        (Takeover::Wipe, false),
        (Takeover::Keep, true),
        (Takeover::Replace, true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let leave = Options {
            leave_socket: true,
            ..Options::default()
        };
        Kubelet::serve(dir.path(), leave)
            .await
            .expect("serves")
            .stop()
            .await;
        assert!(dir.path().join(KUBELET_SOCKET).exists(), "left behind");
        let thing = Running::start(dir.path(), "thing.sock", DevicePluginOptions::default());
        std::fs::write(dir.path().join("kubelet_internal_checkpoint"), "{}").expect("writes");
        let options = Options {
            takeover,
            ..Options::default()
        };
        let second = Kubelet::serve(dir.path(), options).await.expect("serves");
        assert_eq!(
            dir.path().join("thing.sock").exists(),
            stays,
            "{takeover:?}"
        );
        assert!(dir.path().join("kubelet_internal_checkpoint").exists());
        assert_eq!(thing.register().await.is_ok(), stays, "{takeover:?}");
        second.stop().await;
    }
}
