//! Shapes of requests and responses.

use std::collections::BTreeMap;

use model::Result;
use serde::Deserialize;
use serde_json::{Map, Value};
use web::{Cx, Version};

use crate::input::{Flag, Whole, invalid};

/// A request to create servers, as the newest microversion has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as Nova's API reference has them")]
pub struct Create {
    pub name: String,
    #[serde(rename = "imageRef")]
    pub image_ref: Option<String>,
    #[serde(rename = "flavorRef")]
    pub flavor_ref: Value,
    #[serde(rename = "adminPass")]
    pub admin_pass: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub networks: Option<Networks>,
    #[serde(rename = "OS-DCF:diskConfig")]
    pub disk_config: Option<DiskConfig>,
    #[serde(rename = "accessIPv4")]
    pub access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    pub access_ipv6: Option<String>,
    pub personality: Option<Vec<Value>>,
    pub availability_zone: Option<String>,
    pub config_drive: Option<Flag>,
    pub key_name: Option<String>,
    pub min_count: Option<Whole>,
    pub max_count: Option<Whole>,
    pub return_reservation_id: Option<Flag>,
    #[serde(default)]
    pub security_groups: Vec<GroupName>,
    pub user_data: Option<String>,
    pub block_device_mapping: Option<Vec<Value>>,
    pub block_device_mapping_v2: Option<Vec<BlockDevice>>,
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub trusted_image_certificates: Option<Vec<String>>,
    pub host: Option<String>,
    pub hypervisor_hostname: Option<String>,
    pub hostname: Option<String>,
}

/// Nova's `OS-DCF:diskConfig`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "shown, of no effect")]
pub enum DiskConfig {
    #[serde(rename = "AUTO")]
    Auto,
    #[serde(rename = "MANUAL")]
    Manual,
}

impl DiskConfig {
    /// As users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "AUTO",
            Self::Manual => "MANUAL",
        }
    }
}

/// Which networks a server is put on.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Networks {
    /// These.
    List(Vec<NetworkRef>),
    /// `auto` or `none`.
    Word(String),
}

/// A network, or a port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as Nova's API reference has them")]
pub struct NetworkRef {
    pub uuid: Option<String>,
    pub port: Option<String>,
    pub fixed_ip: Option<String>,
    pub tag: Option<String>,
}

/// A security group, by name or id.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupName {
    /// Name or id.
    pub name: String,
}

/// A disk to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, dead_code, reason = "as Nova's API reference has them; of most only the name is checked")]
pub struct BlockDevice {
    pub source_type: Option<String>,
    pub destination_type: Option<String>,
    pub uuid: Option<String>,
    pub boot_index: Option<Value>,
    pub delete_on_termination: Option<Flag>,
    pub device_name: Option<String>,
    pub device_type: Option<String>,
    pub disk_bus: Option<String>,
    pub guest_format: Option<String>,
    pub no_device: Option<Value>,
    pub tag: Option<String>,
    pub volume_size: Option<Value>,
    pub volume_type: Option<String>,
    pub volume_id: Option<String>,
    pub snapshot_id: Option<String>,
    pub image_id: Option<String>,
}

/// Fields that not every microversion has: name, first and last that does.
const FIELDS: &[(&str, Version, Version)] = &[
    ("personality", Version::MIN, Version(2, 56)),
    ("description", Version(2, 19), Version::MAX),
    ("tags", Version(2, 52), Version::MAX),
    ("trusted_image_certificates", Version(2, 63), Version::MAX),
    ("host", Version(2, 74), Version::MAX),
    ("hypervisor_hostname", Version(2, 74), Version::MAX),
    ("hostname", Version(2, 90), Version::MAX),
];

/// A field that this microversion does not have.
pub(super) fn check_fields(
    fields: &Map<String, Value>,
    table: &[(&str, Version, Version)],
    version: Version,
) -> Result<()> {
    let alien = table
        .iter()
        .find(|(name, since, until)| fields.contains_key(*name) && !(*since <= version && version <= *until));
    match alien {
        None => Ok(()),
        Some((name, ..)) => Err(invalid(format!(
            "Invalid input for field/attribute server. Additional properties are not allowed ('{name}' was unexpected)"
        ))),
    }
}

/// Keys under which scheduler hints stand beside the server.
const HINTS: [&str; 2] = ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"];

impl Create {
    /// The request and its scheduler hints.
    ///
    /// # Errors
    /// Bad request that says where the body differs from the schema.
    pub fn read(cx: &Cx) -> Result<(Self, Map<String, Value>)> {
        let mut body: Map<String, Value> = cx.json()?;
        let server = body.remove("server").ok_or_else(|| invalid("Invalid input: 'server' is a required property"))?;
        let mut hints = Map::new();
        for key in HINTS {
            match body.remove(key) {
                None => {}
                Some(Value::Object(given)) => hints = given,
                Some(_) => {
                    return Err(invalid(format!("Invalid input for field/attribute {key}: it must be an object")));
                }
            }
        }
        if let Some(key) = body.keys().next() {
            return Err(invalid(format!("Additional properties are not allowed ('{key}' was unexpected)")));
        }
        let Value::Object(fields) = server else {
            return Err(invalid("Invalid input for server: it must be an object"));
        };
        check_fields(&fields, FIELDS, cx.version)?;
        let create: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|e| invalid(format!("Invalid input for field/attribute server: {e}")))?;
        Ok((create, hints))
    }

    /// The flavor's id: a reference may be an address that ends in it.
    pub fn flavor_id(&self) -> Option<String> {
        match &self.flavor_ref {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => Some(last_part(text).to_owned()).filter(|id| !id.is_empty()),
            _ => None,
        }
    }
}

/// What follows the last slash: references may be ids or addresses.
pub fn last_part(reference: &str) -> &str {
    reference.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// A change of a server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as Nova's API reference has them")]
pub struct Update {
    pub name: Option<String>,
    #[serde(rename = "OS-DCF:diskConfig")]
    pub disk_config: Option<DiskConfig>,
    #[serde(rename = "accessIPv4")]
    pub access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    pub access_ipv6: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Option<String>>,
    pub hostname: Option<String>,
}

/// Tells null from absent.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

impl Update {
    /// The request.
    ///
    /// # Errors
    /// Bad request that says where the body differs from the schema.
    pub fn read(cx: &Cx) -> Result<Self> {
        const FIELDS: &[(&str, Version, Version)] =
            &[("description", Version(2, 19), Version::MAX), ("hostname", Version(2, 90), Version::MAX)];
        let fields: Map<String, Value> = cx.json_in("server")?;
        check_fields(&fields, FIELDS, cx.version)?;
        serde_json::from_value(Value::Object(fields))
            .map_err(|e| invalid(format!("Invalid input for field/attribute server: {e}")))
    }
}

/// `reboot`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// `SOFT` or `HARD`, whatever the case.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `os-getConsoleOutput`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleOutput {
    /// Lines from the end; all where it is not given.
    pub length: Option<Whole>,
}
