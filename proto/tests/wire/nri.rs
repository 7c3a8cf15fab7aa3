//! The node resource interface, and the calls that carry it.

use coracle_proto::{nri, ttrpc};

use crate::{field, number, same};

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
