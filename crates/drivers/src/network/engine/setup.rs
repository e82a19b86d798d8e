//! What the daemons need before and after they start: folders, databases of the right version, the switch's settings.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::Duration,
};

use tokio::process::Command;
use uuid::Uuid;

use super::{ExternalBridge, Layout, Role, Settings, daemon::run};
use crate::network::{
    NetworkError, Result,
    ovs::{self, BRIDGE, INTERFACE, Ovs, PORT, ROOT},
    ovsdb::{Datum, Operation, Replica},
};

const TOOL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the switch may take to carry out its settings.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);
const NEXT: &str = "next_cfg";
const CURRENT: &str = "cur_cfg";

pub(super) fn make_folders(directory: &Path) -> io::Result<()> {
    for folder in ["run", "db", "log"] {
        DirBuilder::new().recursive(true).mode(0o700).create(directory.join(folder))?;
    }
    Ok(())
}

/// Makes the database's file, or brings it to the schema of the programs at hand.
pub(super) async fn prepare_database(settings: &Settings, layout: &Layout, file: &str, schema: &str) -> Result<()> {
    let (path, schema) = (layout.database(file), settings.binaries.share.join(schema));
    let tool = |verb: &str| {
        let mut command = Command::new(settings.binaries.program("ovsdb-tool"));
        layout.environment(&mut command);
        command.arg(verb).arg(&path).arg(&schema);
        command
    };
    if !fs::exists(&path).unwrap_or(false) {
        return run(&mut tool("create"), "ovsdb-tool create", TOOL_TIME_MAX).await.map(drop);
    }
    if run(&mut tool("needs-conversion"), "ovsdb-tool needs-conversion", TOOL_TIME_MAX).await? == "yes" {
        tracing::info!(database = file, "converting to the schema of the programs at hand");
        run(&mut tool("convert"), "ovsdb-tool convert", TOOL_TIME_MAX).await?;
    }
    Ok(())
}

/// No flow is installed in a switch that does not run, whatever its database remembers.
pub(super) async fn forget_installed(ovs: &Ovs) -> Result<()> {
    let stale = Datum::set(["ovn-installed", "ovn-installed-ts"]);
    ovs.apply(|replica| {
        let claimed = replica.rows(INTERFACE).filter(|(_, row)| row.get("external_ids").key("ovn-installed").is_some());
        Ok(claimed.map(|(uuid, _)| Operation::take(INTERFACE, uuid, "external_ids", &stale)).collect())
    })
    .await
}

/// Writes the switch's and the chassis' settings.
pub(super) async fn configure(ovs: &Ovs, settings: &Settings, layout: &Layout) -> Result<()> {
    let southbound = match &settings.role {
        Role::Whole => format!("unix:{}", layout.south_socket().display()),
        Role::Chassis { southbound } => southbound.clone(),
    };
    let mapping = |bridge: &ExternalBridge| format!("{}:{}", bridge.physical_network, bridge.name);
    let chassis = Datum::map([
        ("system-id", settings.system_id.clone()),
        ("hostname", settings.hostname.clone()),
        ("ovn-remote", southbound),
        ("ovn-encap-type", "geneve".to_owned()),
        ("ovn-encap-ip", settings.encap_ip.to_string()),
        ("ovn-bridge-datapath-type", settings.datapath.as_str().to_owned()),
        ("ovn-bridge-mappings", settings.external.as_ref().map(mapping).unwrap_or_default()),
        // One round trip less until a port is up: the controller need not ask for the port's network first.
        ("ovn-monitor-all", "true".to_owned()),
    ]);
    // Without the root row nothing can hang on it.
    ovs.apply(|replica| {
        let none = replica.rows(ROOT).next().is_none();
        Ok(none.then(|| Operation::insert(ROOT, model::id::random_uuid(), [])).into_iter().collect())
    })
    .await?;
    ovs.apply(|replica| plan_settings(replica, settings, &chassis)).await
}

fn plan_settings(replica: &Replica, settings: &Settings, chassis: &Datum) -> Result<Vec<Operation>> {
    let root = root(replica)?;
    let mut operations = Vec::new();
    let now = replica.row(ROOT, root).map(|row| row.get("external_ids"));
    let differs = match (chassis, now) {
        (Datum::Map(wanted), Some(Datum::Map(now))) => wanted.iter().any(|(key, value)| now.get(key) != Some(value)),
        _ => true,
    };
    if differs {
        operations.push(Operation::set_keys(ROOT, root, "external_ids", chassis));
    }
    let datapath = settings.datapath.as_str();
    for name in settings.external.iter().map(|bridge| bridge.name.as_str()).chain([ovs::INTEGRATION_BRIDGE]) {
        operations.extend(plan_bridge(replica, root, name, datapath));
    }
    Ok(operations)
}

fn root(replica: &Replica) -> Result<Uuid> {
    let root = replica.rows(ROOT).next().map(|(uuid, _)| uuid);
    root.ok_or_else(|| NetworkError::Unavailable { what: "Open vSwitch", why: "its database has no root row".into() })
}

fn plan_bridge(replica: &Replica, root: Uuid, name: &str, datapath: &str) -> Vec<Operation> {
    if let Some(bridge) = ovs::bridge(replica, name) {
        let now = replica.row(BRIDGE, bridge).and_then(|row| row.get("datapath_type").as_text());
        let same = now == Some(datapath) || (datapath == "system" && now == Some(""));
        let change = (!same).then(|| Operation::update(BRIDGE, bridge, [("datapath_type", Datum::one(datapath))]));
        return change.into_iter().collect();
    }
    let [interface, port, bridge] = std::array::from_fn(|_| model::id::random_uuid());
    let named = || ("name", Datum::one(name));
    // The integration bridge forwards nothing until its controller says so.
    let secure = (name == ovs::INTEGRATION_BRIDGE).then_some(("fail_mode", Datum::one("secure")));
    let bridge_columns = [named(), ("datapath_type", Datum::one(datapath)), ("ports", Datum::one(port))];
    vec![
        Operation::insert(INTERFACE, interface, [named(), ("type", Datum::one("internal"))]),
        Operation::insert(PORT, port, [named(), ("interfaces", Datum::one(interface))]),
        Operation::insert(BRIDGE, bridge, bridge_columns.into_iter().chain(secure)),
        Operation::add(ROOT, root, "bridges", &Datum::set([bridge])),
    ]
}

/// Waits until the switch has carried out its settings, then gives the external bridge its address.
pub(super) async fn settle(ovs: &Ovs, settings: &Settings) -> Result<()> {
    ovs.apply_once(|replica| Ok(vec![Operation::increment(ROOT, root(replica)?, NEXT, 1)])).await?;
    let number =
        |replica: &Replica, column: &str| replica.rows(ROOT).next().and_then(|(_, row)| row.get(column).as_int());
    let wanted = number(&ovs.client().replica(), NEXT);
    let waiting = ovs.client().wait_until(SETTLE_TIME_MAX, |replica| number(replica, CURRENT) >= wanted).await;
    waiting.map_err(|error| NetworkError::Unavailable {
        what: "ovs-vswitchd",
        why: format!("it does not carry out its settings: {error}"),
    })?;
    if let Some(bridge) = &settings.external {
        ovs.links().bring_up(&bridge.name, None, None).await?;
        if let Some(address) = bridge.address {
            ovs.links().ensure_address(&bridge.name, address).await?;
        }
    }
    Ok(())
}
