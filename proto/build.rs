//! Generates the Rust code from `proto/*.proto`, without protoc.

use std::error::Error;

/// One per protocol.
const FILES: [&str; 5] = [
    "proto/deviceplugin_v1beta1.proto",
    "proto/nri_v1alpha1.proto",
    "proto/pluginregistration_v1.proto",
    "proto/podresources_v1.proto",
    "proto/ttrpc.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
