//! A server as its row has it: reading, inserting, writing. Columns are named here and nowhere else.

use super::{
    json,
    servers::{Change, Fault, Hold, Observed, Phase, Placed, Power, Server, Shown, VmState, Wanted},
};
use crate::{Result, RowExt, Tx, events, query};

impl Server {
    pub(super) fn from_row(row: &impl RowExt) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            project_id: row.id("project_id")?,
            user_id: row.id("user_id")?,
            name: row.text("name")?,
            description: row.opt_text("description")?,
            hostname: row.text("hostname")?,
            flavor_id: row.id("flavor_id")?,
            flavor: row.json("flavor")?,
            image_id: row.id("image_id")?,
            image: row.json("image")?,
            key_name: row.opt_text("key_name")?,
            key_public: row.opt_text("key_public")?,
            user_data: row.opt_text("user_data")?,
            config_drive: row.flag("config_drive")?,
            disk_config: row.text("disk_config")?,
            zone_wanted: row.opt_text("zone_wanted")?,
            host_wanted: row.opt_text("host_wanted")?,
            scheduler_hints: row.text("scheduler_hints")?,
            reservation_id: row.text("reservation_id")?,
            launch_index: row.int("launch_index")?,
            random_seed: row.text("random_seed")?,
            access_ipv4: row.text("access_ipv4")?,
            access_ipv6: row.text("access_ipv6")?,
            locked: row.flag("locked")?,
            locked_reason: row.opt_text("locked_reason")?,
            wanted: Wanted {
                running: row.text("wanted_power")? != STOPPED,
                hold: Hold::parse(&row.text("wanted_power")?).unwrap_or(Hold::No),
                boot: row.int("boot")?,
                graceful: row.flag("graceful")?,
                change: Change::of(row, "change")?,
                generation: row.int("generation")?,
            },
            life: row.json("life")?,
            host: placed(row)?,
            told_generation: row.int("told_generation")?,
            told_digest: row.text("told_digest")?,
            observed: Observed {
                generation: row.int("observed_generation")?,
                boot: row.int("observed_boot")?,
                power: Power::of(row, "observed_power")?,
                phase: Phase::of(row, "observed_phase")?,
                fault: row.text("observed_fault")?,
                fault_is_final: row.flag("fault_is_final")?,
            },
            guest_password: row.text("guest_password")?,
            shown: Shown {
                vm_state: VmState::of(row, "vm_state")?,
                task_state: row.opt_text("task_state")?,
                power_state: row.int("power_state")?,
                status: row.text("status")?,
            },
            fault: fault(row)?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            launched_at: row.opt_time("launched_at")?,
            terminated_at: row.opt_time("terminated_at")?,
            delete_wanted_at: row.opt_time("delete_wanted_at")?,
            deleted_at: row.opt_time("deleted_at")?,
        })
    }
}

/// The columns, in the order in which [`Server::from_row`] reads them.
pub(super) const COLUMNS: &[&str] = &[
    "id",
    "project_id",
    "user_id",
    "name",
    "description",
    "hostname",
    "flavor_id",
    "flavor",
    "image_id",
    "image",
    "key_name",
    "key_public",
    "user_data",
    "config_drive",
    "disk_config",
    "zone_wanted",
    "host_wanted",
    "scheduler_hints",
    "reservation_id",
    "launch_index",
    "random_seed",
    "access_ipv4",
    "access_ipv6",
    "locked",
    "locked_reason",
    "wanted_power",
    "boot",
    "graceful",
    "change",
    "generation",
    "life",
    "host_id",
    "node",
    "zone",
    "told_generation",
    "told_digest",
    "observed_generation",
    "observed_boot",
    "observed_power",
    "observed_phase",
    "observed_fault",
    "fault_is_final",
    "guest_password",
    "vm_state",
    "task_state",
    "power_state",
    "status",
    "fault_code",
    "fault_message",
    "fault_details",
    "fault_at",
    "created_at",
    "updated_at",
    "launched_at",
    "terminated_at",
    "delete_wanted_at",
    "deleted_at",
];

const STOPPED: &str = "stopped";

fn wanted_power(wanted: &Wanted) -> &'static str {
    if wanted.running { wanted.hold.as_str() } else { STOPPED }
}

fn placed(row: &impl RowExt) -> Result<Option<Placed>> {
    let Some(id) = row.opt_id("host_id")? else { return Ok(None) };
    let name = row.opt_text("node")?.unwrap_or_default();
    Ok(Some(Placed { id, name, zone: row.opt_text("zone")?.unwrap_or_default() }))
}

fn fault(row: &impl RowExt) -> Result<Option<Fault>> {
    let Some(code) = row.opt_int("fault_code")? else { return Ok(None) };
    Ok(Some(Fault {
        code,
        message: row.opt_text("fault_message")?.unwrap_or_default(),
        details: row.opt_text("fault_details")?.unwrap_or_default(),
        at: row.opt_time("fault_at")?.unwrap_or_default(),
    }))
}

/// Inserts a server without its flow, metadata, tags and ports.
pub async fn insert(tx: &mut Tx, server: &Server) -> Result<()> {
    query(
        "insert into servers (id, project_id, user_id, name, description, hostname, flavor_id, flavor, image_id, image, \
         key_name, key_public, user_data, config_drive, zone_wanted, host_wanted, scheduler_hints, reservation_id, \
         launch_index, random_seed, access_ipv4, access_ipv6, locked, wanted_power, boot, graceful, change, generation, \
         told_generation, observed_generation, observed_boot, observed_power, observed_phase, observed_fault, \
         fault_is_final, vm_state, task_state, power_state, status, created_at, updated_at, cores, ram, \
         disk_config, guest_password, told_digest) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, 0, \
         $23, $24, $25, $26, $27, 0, 0, 0, '', '', '', 0, $28, $29, $30, $31, $32, $32, $33, $34, $35, '', '')",
    )
    .bind(server.id.as_str())
    .bind(server.project_id.as_str())
    .bind(server.user_id.as_str())
    .bind(server.name.as_str())
    .bind(server.description.as_deref())
    .bind(server.hostname.as_str())
    .bind(server.flavor_id.as_str())
    .bind(json(&server.flavor))
    .bind(server.image_id.as_str())
    .bind(json(&server.image))
    .bind(server.key_name.as_deref())
    .bind(server.key_public.as_deref())
    .bind(server.user_data.as_deref())
    .bind(i64::from(server.config_drive))
    .bind(server.zone_wanted.as_deref())
    .bind(server.host_wanted.as_deref())
    .bind(server.scheduler_hints.as_str())
    .bind(server.reservation_id.as_str())
    .bind(server.launch_index)
    .bind(server.random_seed.as_str())
    .bind(server.access_ipv4.as_str())
    .bind(server.access_ipv6.as_str())
    .bind(wanted_power(&server.wanted))
    .bind(server.wanted.boot)
    .bind(i64::from(server.wanted.graceful))
    .bind(server.wanted.change.as_str())
    .bind(server.wanted.generation)
    .bind(server.shown.vm_state.as_str())
    .bind(server.shown.task_state.as_deref())
    .bind(server.shown.power_state)
    .bind(server.shown.status.as_str())
    .bind(server.created_at.0)
    .bind(server.flavor.vcpus)
    .bind(server.flavor.memory_mib)
    .bind(server.disk_config.as_str())
    .execute(&mut **tx)
    .await?;
    events::created(tx, events::SERVER, &server.id);
    Ok(())
}

/// Writes everything that may change. Read the row with [`lock`] first. `updated_at` is the caller's: what users don't
/// see leaves it alone.
pub async fn update(tx: &mut Tx, server: &Server) -> Result<()> {
    let differs = shows_otherwise(tx, server).await?;
    let (host, fault) = (server.host.as_ref(), server.fault.as_ref());
    query(
        "update servers set name = $2, description = $3, hostname = $4, access_ipv4 = $5, access_ipv6 = $6, locked = $7, \
         locked_reason = $8, wanted_power = $9, boot = $10, graceful = $11, change = $12, generation = $13, host_id = $14, \
         node = $15, zone = $16, told_generation = $17, observed_generation = $18, observed_boot = $19, \
         observed_power = $20, observed_phase = $21, observed_fault = $22, fault_is_final = $23, vm_state = $24, \
         task_state = $25, power_state = $26, status = $27, fault_code = $28, fault_message = $29, fault_details = $30, \
         fault_at = $31, updated_at = $32, launched_at = $33, terminated_at = $34, delete_wanted_at = $35, \
         deleted_at = $36, guest_password = $37, disk_config = $38, told_digest = $39, flavor_id = $40, flavor = $41, \
         cores = $42, ram = $43, image_id = $44, image = $45, key_name = $46, key_public = $47, user_data = $48, \
         zone_wanted = $49, host_wanted = $50, life = $51, root_image_id = $52, rescue_image_id = $53, config_drive = $54 \
         where id = $1",
    )
    .bind(server.id.as_str())
    .bind(server.name.as_str())
    .bind(server.description.as_deref())
    .bind(server.hostname.as_str())
    .bind(server.access_ipv4.as_str())
    .bind(server.access_ipv6.as_str())
    .bind(i64::from(server.locked))
    .bind(server.locked_reason.as_deref())
    .bind(wanted_power(&server.wanted))
    .bind(server.wanted.boot)
    .bind(i64::from(server.wanted.graceful))
    .bind(server.wanted.change.as_str())
    .bind(server.wanted.generation)
    .bind(host.map(|h| h.id.as_str()))
    .bind(host.map(|h| h.name.as_str()))
    .bind(host.map(|h| h.zone.as_str()))
    .bind(server.told_generation)
    .bind(server.observed.generation)
    .bind(server.observed.boot)
    .bind(server.observed.power.as_str())
    .bind(server.observed.phase.as_str())
    .bind(server.observed.fault.as_str())
    .bind(i64::from(server.observed.fault_is_final))
    .bind(server.shown.vm_state.as_str())
    .bind(server.shown.task_state.as_deref())
    .bind(server.shown.power_state)
    .bind(server.shown.status.as_str())
    .bind(fault.map(|f| f.code))
    .bind(fault.map(|f| f.message.as_str()))
    .bind(fault.map(|f| f.details.as_str()))
    .bind(fault.map(|f| f.at.0))
    .bind(server.updated_at.0)
    .bind(server.launched_at.map(|t| t.0))
    .bind(server.terminated_at.map(|t| t.0))
    .bind(server.delete_wanted_at.map(|t| t.0))
    .bind(server.deleted_at.map(|t| t.0))
    .bind(server.guest_password.as_str())
    .bind(server.disk_config.as_str())
    .bind(server.told_digest.as_str())
    .bind(server.flavor_id.as_str())
    .bind(json(&server.flavor))
    .bind(server.charged().0)
    .bind(server.charged().1)
    .bind(server.image_id.as_str())
    .bind(json(&server.image))
    .bind(server.key_name.as_deref())
    .bind(server.key_public.as_deref())
    .bind(server.user_data.as_deref())
    .bind(server.zone_wanted.as_deref())
    .bind(server.host_wanted.as_deref())
    .bind(json(&server.life))
    .bind(server.life.root.as_ref().map(|root| root.id.as_str()))
    .bind(server.life.rescue.as_ref().map(|rescue| rescue.id.as_str()))
    .bind(i64::from(server.config_drive))
    .execute(&mut **tx)
    .await?;
    if differs && server.deleted_at.is_some() {
        events::deleted(tx, events::SERVER, &server.id).await?;
    } else if differs {
        events::updated(tx, events::SERVER, &server.id);
    }
    Ok(())
}

/// Whether users see another server once this is written. Most writes are about what a host was told.
async fn shows_otherwise(tx: &mut Tx, server: &Server) -> Result<bool> {
    let row = query(
        "select 1 as same from servers where id = $1 and updated_at = $2 and status = $3 and coalesce(task_state, '') = $4 \
         and power_state = $5 and coalesce(deleted_at, 0) = $6",
    )
    .bind(server.id.as_str())
    .bind(server.updated_at.0)
    .bind(server.shown.status.as_str())
    .bind(server.shown.task_state.as_deref().unwrap_or(""))
    .bind(server.shown.power_state)
    .bind(server.deleted_at.map_or(0, |at| at.0))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_none())
}
