//! The bytes on the wire, written down by hand from the kubelet's field
//! numbers: a renumbered field would still compile and still talk to itself.

use std::collections::HashMap;

use coracle_proto::deviceplugin::{
    self, AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest,
    ContainerAllocateResponse, ContainerPreferredAllocationRequest,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec,
    ListAndWatchResponse, Mount, NumaNode, PreStartContainerRequest, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, TopologyInfo,
};
use coracle_proto::{nri, pluginregistration, podresources, ttrpc};
use prost::Message;

/// A length-delimited field: key, length, bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("the examples are short");
    assert!(length < 0x80, "one byte of length");
    [&[number << 3 | 2, length], bytes].concat()
}

/// A varint field with a value below 128.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// The message is these bytes, and these bytes are the message.
#[track_caller]
fn same<M: Message + PartialEq + Default + std::fmt::Debug>(message: &M, bytes: &[&[u8]]) {
    let bytes = bytes.concat();
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(&M::decode(bytes.as_slice()).expect("decodes"), message);
}

#[test]
fn registration() {
    let options = DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    same(&options, &[&number(1, 1), &number(2, 1)]);
    same(
        &RegisterRequest {
            version: deviceplugin::VERSION.into(),
            endpoint: "a.sock".into(),
            resource_name: "x.dev/kvm".into(),
            options: Some(options),
        },
        &[
            &field(1, b"v1beta1"),
            &field(2, b"a.sock"),
            &field(3, b"x.dev/kvm"),
            &field(4, &[8, 1, 16, 1]),
        ],
    );
}

#[test]
fn device_list() {
    same(
        &ListAndWatchResponse {
            devices: vec![Device {
                id: "kvm-0".into(),
                health: deviceplugin::HEALTHY.into(),
                topology: Some(TopologyInfo {
                    nodes: vec![NumaNode { id: 1 }],
                }),
            }],
        },
        &[&field(
            1,
            &[
                field(1, b"kvm-0"),
                field(2, b"Healthy"),
                field(3, &field(1, &number(1, 1))),
            ]
            .concat(),
        )],
    );
}

#[test]
fn requests_of_the_kubelet() {
    let ids = vec!["kvm-0".to_owned(), "kvm-1".to_owned()];
    let two = [field(1, b"kvm-0"), field(1, b"kvm-1")].concat();
    same(
        &AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                device_ids: ids.clone(),
            }],
        },
        &[&field(1, &two)],
    );
    same(
        &PreStartContainerRequest {
            device_ids: ids.clone(),
        },
        &[&two],
    );
    same(
        &PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_ids: ids.clone(),
                must_include_device_ids: vec!["kvm-1".into()],
                allocation_size: 2,
            }],
        },
        &[&field(
            1,
            &[two.clone(), field(2, b"kvm-1"), number(3, 2)].concat(),
        )],
    );
    same(
        &PreferredAllocationResponse {
            container_responses: vec![ContainerPreferredAllocationResponse { device_ids: ids }],
        },
        &[&field(1, &two)],
    );
}

#[test]
fn allocation() {
    let map = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let entry = [field(1, b"K"), field(2, b"V")].concat();
    same(
        &AllocateResponse {
            container_responses: vec![ContainerAllocateResponse {
                envs: map("K", "V"),
                mounts: vec![Mount {
                    container_path: "/c".into(),
                    host_path: "/h".into(),
                    read_only: true,
                }],
                devices: vec![DeviceSpec {
                    container_path: "/dev/kvm".into(),
                    host_path: "/run/kvm".into(),
                    permissions: "rw".into(),
                }],
                annotations: map("K", "V"),
                cdi_devices: vec![CdiDevice {
                    name: "x.dev/kvm=kvm".into(),
                }],
            }],
        },
        &[&field(
            1,
            &[
                field(1, &entry),
                field(
                    2,
                    &[field(1, b"/c"), field(2, b"/h"), number(3, 1)].concat(),
                ),
                field(
                    3,
                    &[
                        field(1, b"/dev/kvm"),
                        field(2, b"/run/kvm"),
                        field(3, b"rw"),
                    ]
                    .concat(),
                ),
                field(4, &entry),
                field(5, &field(1, b"x.dev/kvm=kvm")),
            ]
            .concat(),
        )],
    );
}

#[test]
fn plugin_registration() {
    same(
        &pluginregistration::PluginInfo {
            r#type: pluginregistration::DEVICE_PLUGIN.into(),
            name: "x.dev/kvm".into(),
            endpoint: "/s".into(),
            supported_versions: vec!["v1beta1".into()],
        },
        &[
            &field(1, b"DevicePlugin"),
            &field(2, b"x.dev/kvm"),
            &field(3, b"/s"),
            &field(4, b"v1beta1"),
        ],
    );
    same(
        &pluginregistration::RegistrationStatus {
            plugin_registered: true,
            error: "e".into(),
        },
        &[&number(1, 1), &field(2, b"e")],
    );
}

fn memory() -> (podresources::ContainerMemory, Vec<u8>) {
    let memory = podresources::ContainerMemory {
        memory_type: "memory".into(),
        size: 5,
        topology: Some(podresources::TopologyInfo {
            nodes: vec![podresources::NumaNode { id: 1 }],
        }),
    };
    let bytes = [
        field(1, b"memory"),
        number(2, 5),
        field(3, &field(1, &number(1, 1))),
    ]
    .concat();
    (memory, bytes)
}

fn claim() -> (podresources::DynamicResource, Vec<u8>) {
    let claim = podresources::DynamicResource {
        claim_name: "c".into(),
        claim_namespace: "n".into(),
        claim_resources: vec![podresources::ClaimResource {
            cdi_devices: vec![podresources::CdiDevice { name: "d".into() }],
            driver_name: "r".into(),
            pool_name: "p".into(),
            device_name: "e".into(),
            share_id: Some("s".into()),
        }],
    };
    let resource = [
        field(1, &field(1, b"d")),
        field(2, b"r"),
        field(3, b"p"),
        field(4, b"e"),
        field(5, b"s"),
    ]
    .concat();
    (
        claim,
        [field(2, b"c"), field(3, b"n"), field(4, &resource)].concat(),
    )
}

fn container() -> (podresources::ContainerResources, Vec<u8>) {
    let ((memory, memory_bytes), (claim, claim_bytes)) = (memory(), claim());
    let container = podresources::ContainerResources {
        name: "vm".into(),
        devices: vec![podresources::ContainerDevices {
            resource_name: "x.dev/kvm".into(),
            device_ids: vec!["kvm-0".into()],
            topology: None,
        }],
        cpu_ids: vec![2],
        memory: vec![memory],
        dynamic_resources: vec![claim],
    };
    let bytes = [
        field(1, b"vm"),
        field(2, &[field(1, b"x.dev/kvm"), field(2, b"kvm-0")].concat()),
        // Repeated numbers are packed.
        field(3, &[2]),
        field(4, &memory_bytes),
        field(5, &claim_bytes),
    ]
    .concat();
    (container, bytes)
}

#[test]
fn pod_resources() {
    let ((memory, memory_bytes), (container, container_bytes)) = (memory(), container());
    let pod = podresources::PodResources {
        name: "p".into(),
        namespace: "n".into(),
        containers: vec![container],
        cpu_ids: vec![3],
        memory: vec![memory.clone()],
    };
    let pod_bytes = [
        field(1, b"p"),
        field(2, b"n"),
        field(3, &container_bytes),
        field(4, &[3]),
        field(5, &memory_bytes),
    ]
    .concat();
    same(
        &podresources::ListPodResourcesResponse {
            pod_resources: vec![pod.clone()],
        },
        &[&field(1, &pod_bytes)],
    );
    same(
        &podresources::GetPodResourcesResponse {
            pod_resources: Some(pod),
        },
        &[&field(1, &pod_bytes)],
    );
    same(
        &podresources::GetPodResourcesRequest {
            pod_name: "p".into(),
            pod_namespace: "n".into(),
        },
        &[&field(1, b"p"), &field(2, b"n")],
    );
    same(
        &podresources::AllocatableResourcesResponse {
            devices: vec![],
            cpu_ids: vec![1],
            memory: vec![memory],
        },
        &[&field(2, &[1]), &field(3, &memory_bytes)],
    );
}

#[test]
fn node_resource_interface() {
    same(
        &nri::RegisterPluginRequest {
            plugin_name: "p".into(),
            plugin_idx: "90".into(),
        },
        &[&field(1, b"p"), &field(2, b"90")],
    );
    same(
        &nri::ConfigureRequest {
            runtime_name: "r".into(),
            runtime_version: "2".into(),
        },
        &[&field(2, b"r"), &field(3, b"2")],
    );
    same(&nri::ConfigureResponse { events: 8 }, &[&number(2, 8)]);
    same(&nri::SynchronizeRequest { more: true }, &[&number(3, 1)]);
    same(&nri::SynchronizeResponse { more: true }, &[&number(2, 1)]);
    assert_eq!(nri::Event::CreateContainer as i32, 4);

    let limit = nri::PosixRlimit {
        r#type: "R".into(),
        hard: 2,
        soft: 1,
    };
    let limit_bytes = [field(1, b"R"), number(2, 2), number(3, 1)].concat();
    let device = field(2, &[field(1, b"/d"), field(2, b"c")].concat());
    let request = nri::CreateContainerRequest {
        pod: Some(nri::PodSandbox {
            name: "p".into(),
            namespace: "n".into(),
        }),
        container: Some(nri::Container {
            name: "c".into(),
            env: vec!["A=b".into()],
            linux: Some(nri::LinuxContainer {
                devices: vec![nri::LinuxDevice {
                    path: "/d".into(),
                    r#type: "c".into(),
                }],
            }),
            rlimits: vec![limit.clone()],
        }),
    };
    let container = [
        field(3, b"c"),
        field(8, b"A=b"),
        field(11, &device),
        field(13, &limit_bytes),
    ];
    let pod = [field(2, b"p"), field(4, b"n")].concat();
    same(&request, &[&field(1, &pod), &field(2, &container.concat())]);
    let adjust = nri::ContainerAdjustment {
        rlimits: vec![limit],
    };
    same(
        &nri::CreateContainerResponse {
            adjust: Some(adjust),
        },
        &[&field(1, &field(7, &limit_bytes))],
    );
}

#[test]
fn calls_over_ttrpc() {
    same(
        &ttrpc::Request {
            service: "s".into(),
            method: "m".into(),
            payload: vec![7],
            timeout_nano: 5,
        },
        &[
            &field(1, b"s"),
            &field(2, b"m"),
            &field(3, &[7]),
            &number(4, 5),
        ],
    );
    let status = ttrpc::Status {
        code: 12,
        message: "no".into(),
    };
    same(
        &ttrpc::Response {
            status: Some(status),
            payload: vec![7],
        },
        &[
            &field(1, &[number(1, 12), field(2, b"no")].concat()),
            &field(2, &[7]),
        ],
    );
}

/// The names of packages and services are part of every request's path.
#[test]
fn service_names() {
    use coracle_proto::deviceplugin::{device_plugin_server, registration_server};
    assert_eq!(registration_server::SERVICE_NAME, "v1beta1.Registration");
    assert_eq!(device_plugin_server::SERVICE_NAME, "v1beta1.DevicePlugin");
    assert_eq!(
        pluginregistration::registration_server::SERVICE_NAME,
        "pluginregistration.Registration"
    );
    assert_eq!(
        podresources::pod_resources_lister_server::SERVICE_NAME,
        "v1.PodResourcesLister"
    );
}
