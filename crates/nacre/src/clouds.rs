//! `clouds.yaml`, as every OpenStack client reads it.

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    layout::{Layout, write_private},
    secrets::Secrets,
};

/// The region's name: DevStack's and most clients' default.
pub const REGION: &str = "RegionOne";

/// Leaves `clouds.yaml` in the state directory.
pub fn write(layout: &Layout, secrets: &Secrets, public_url: &str) -> anyhow::Result<()> {
    let clouds = json!({"clouds": {
        "nacre": cloud(public_url, "admin", &secrets.admin_password, "admin"),
        "demo": cloud(public_url, "demo", &secrets.demo_password, "demo"),
    }});
    let text = serde_yaml_ng::to_string(&clouds)?;
    write_private(&layout.clouds(), text.as_bytes()).with_context(|| format!("writing {}", layout.clouds().display()))
}

fn cloud(public_url: &str, user: &str, password: &str, project: &str) -> Value {
    json!({
        "auth": {
            "auth_url": format!("{public_url}/identity/v3"),
            "username": user, "password": password, "project_name": project,
            "user_domain_name": "Default", "project_domain_name": "Default",
        },
        "region_name": REGION,
        "identity_api_version": "3",
    })
}

/// `nacre clouds`.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub fn print(layout: &Layout) -> anyhow::Result<()> {
    let path = layout.clouds();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("there is no cloud in {} yet (or you are not root); start one with: nacre up", layout.root.display())
    })?;
    print!("{text}");
    Ok(())
}
