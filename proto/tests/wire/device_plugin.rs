//! The device plugin protocol.

use std::collections::HashMap;

use coracle_proto::deviceplugin::{
    self, AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest,
    ContainerAllocateResponse, ContainerPreferredAllocationRequest,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec,
    ListAndWatchResponse, Mount, NumaNode, PreStartContainerRequest, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, TopologyInfo,
};

use crate::{field, number, same};

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
