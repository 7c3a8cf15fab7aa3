//! Which containers are changed, and that nothing else is.

use coracle_proto::nri::{LinuxContainer, LinuxDevice, PodSandbox};

use super::*;

fn container(env: &[&str], nodes: &[&str], limits: &[&str]) -> Container {
    let device = |path: &&str| LinuxDevice {
        path: (*path).to_owned(),
        r#type: "c".to_owned(),
    };
    let limit = |name: &&str| PosixRlimit {
        r#type: (*name).to_owned(),
        hard: 1,
        soft: 1,
    };
    Container {
        name: "vm".to_owned(),
        env: env.iter().map(|text| (*text).to_owned()).collect(),
        linux: Some(LinuxContainer {
            devices: nodes.iter().map(device).collect(),
        }),
        rlimits: limits.iter().map(limit).collect(),
    }
}

fn call(method: &str, payload: Vec<u8>) -> Request {
    Request {
        service: PLUGIN.to_owned(),
        method: method.to_owned(),
        payload,
        timeout_nano: 0,
    }
}

fn create(container: Container) -> (CreateContainerResponse, Heard) {
    let request = CreateContainerRequest {
        pod: Some(PodSandbox {
            name: "web-1".to_owned(),
            namespace: "shop".to_owned(),
        }),
        container: Some(container),
    };
    let (response, heard) = answer(&call("CreateContainer", request.encode_to_vec()));
    assert_eq!(response.status, None);
    let response = CreateContainerResponse::decode(response.payload.as_slice());
    (response.expect("a response"), heard)
}

const GPU: &str = "CORACLE_DEVICE_EXAMPLE_COM_GPU=0000:01:00.0";

#[test]
fn a_container_with_a_device_of_vfio_may_lock_memory() {
    for nodes in [
        &["/dev/vfio/vfio", "/dev/vfio/7"][..],
        &["/dev/vfio/devices/vfio12", "/dev/iommu"],
    ] {
        let (response, heard) = create(container(&["A=b", GPU], nodes, &["RLIMIT_NOFILE"]));
        let limits = response.adjust.expect("an adjustment").rlimits;
        let unlimited = PosixRlimit {
            r#type: "RLIMIT_MEMLOCK".to_owned(),
            hard: u64::MAX,
            soft: u64::MAX,
        };
        assert_eq!(limits, [unlimited]);
        let container = "shop/web-1/vm".to_owned();
        let raised = true;
        assert_eq!(heard, Heard::Vfio { container, raised });
    }
}

#[test]
fn all_other_containers_are_left_as_they_are() {
    for other in [
        // Not given anything by this plugin.
        container(&["PCIDEVICE_A_B=0000:01:00.0"], &["/dev/vfio/7"], &[]),
        container(&["X=CORACLE_DEVICE_A"], &["/dev/vfio/7"], &[]),
        // No device of VFIO.
        container(&[GPU], &[], &[]),
        container(&[GPU], &["/dev/vfio/vfio", "/dev/kvm"], &[]),
        container(&[GPU], &["/dev/vfio/", "/dev/vfio/devices/vfio"], &[]),
        container(&[GPU], &["/dev/vfio/noiommu-0", "/dev/vfio/7a"], &[]),
        container(&[GPU], &["/srv/dev/vfio/7"], &[]),
        Container::default(),
    ] {
        let (response, heard) = create(other.clone());
        assert_eq!(response.adjust, None, "{other:?}");
        assert_eq!(heard, Heard::Nothing, "{other:?}");
    }
}

#[test]
fn a_limit_that_somebody_has_set_stays() {
    let limits = ["RLIMIT_NOFILE", "RLIMIT_MEMLOCK"];
    let (response, heard) = create(container(&[GPU], &["/dev/vfio/7"], &limits));
    assert_eq!(response.adjust, None);
    assert!(matches!(heard, Heard::Vfio { raised: false, .. }));
}

#[test]
fn only_the_creation_of_containers_is_asked_for() {
    let (response, heard) = answer(&call("Configure", vec![]));
    assert_eq!((response.status, heard), (None, Heard::Configured));
    // Field 2, a number: the fourth event's bit.
    assert_eq!(response.payload, [2 << 3, 0b1000]);
}

#[test]
fn what_is_there_already_is_heard_in_as_many_parts_as_it_takes() {
    for more in [false, true] {
        let request = SynchronizeRequest { more }.encode_to_vec();
        // Pods (field 1) and containers (2), which are skipped.
        let request = [&[10, 2, 10, 0, 18, 1, 0][..], &request].concat();
        let (response, _) = answer(&call("Synchronize", request));
        assert_eq!(response.status, None);
        let response = SynchronizeResponse::decode(response.payload.as_slice());
        assert_eq!(response.expect("a response").more, more);
    }
}

#[test]
fn what_is_not_understood_fails_no_container() {
    let (response, heard) = answer(&call("CreateContainer", vec![10, 255]));
    assert_eq!(response, Response::default());
    assert!(matches!(heard, Heard::Garbled { method, .. } if method == "CreateContainer"));
    for told in ["StateChange", "Shutdown", "RunPodSandbox", "Later"] {
        assert_eq!(answer(&call(told, vec![1])).0, Response::default());
    }
    let elsewhere = Request {
        service: "other".to_owned(),
        ..call("Configure", vec![])
    };
    let (response, heard) = answer(&elsewhere);
    assert_eq!(response.status.expect("an error").code, UNIMPLEMENTED);
    assert_eq!(heard, Heard::Nothing);
}
