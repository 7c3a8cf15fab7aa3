//! The bytes on the wire, written down by hand from the kubelet's field
//! numbers: a renumbered field would still compile and still talk to itself.

mod device_plugin;
mod nri;
mod pod_resources;

use coracle_proto::{pluginregistration, podresources};
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
