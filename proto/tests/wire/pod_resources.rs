//! The protocol that tells which pod has what.

use coracle_proto::podresources;

use crate::{field, number, same};

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
