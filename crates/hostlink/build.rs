//! Turns `proto/hostlink.proto` into Rust with protox, so that no `protoc` has to be installed.

use std::error::Error;

const PACKAGE: &str = ".nacre.hostlink.v1";
/// The messages the agent keeps in its ledger, as JSON. Absent fields take their default: an older ledger stays readable.
const KEPT: [&str; 8] =
    ["ServerSpec", "RootDisk", "Port", "FixedIp", "MetadataPort", "Metadata", "Ec2Metadata", "PublicKey"];
/// Messages whose Debug form must not show their contents; written by hand in `src/lib.rs`.
const SECRET: [&str; 3] = ["Metadata", "JoinRequest", "SetPassword"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/hostlink.proto"], ["proto"])?;
    let mut builder = tonic_prost_build::configure()
        .build_transport(false)
        .bytes(format!("{PACKAGE}.ImageChunk"))
        .bytes(format!("{PACKAGE}.ImagePart"))
        .bytes(format!("{PACKAGE}.ConsoleBytes"))
        .btree_map(format!("{PACKAGE}.ServerSpec"))
        .skip_debug(SECRET.map(|name| format!("{PACKAGE}.{name}")));
    for name in KEPT {
        builder = builder
            .type_attribute(format!("{PACKAGE}.{name}"), "#[derive(serde::Serialize, serde::Deserialize)]")
            .type_attribute(format!("{PACKAGE}.{name}"), "#[serde(default)]");
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
