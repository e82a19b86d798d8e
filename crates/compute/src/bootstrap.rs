//! What a new cloud has from the start.

use model::Result;

use crate::State;

/// Flavors of a new cloud: id, name, VCPUs, memory in MiB, disk in GiB.
const FLAVORS: &[(&str, &str, i64, i64, i64)] = &[
    ("42", "m1.nano", 1, 128, 1),
    ("84", "m1.micro", 1, 192, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
];

/// Makes the default flavors where there is no flavor at all. Run again, it changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn bootstrap(state: &State) -> Result<()> {
    let mut tx = state.db.begin().await?;
    if store::compute::flavors::count(&mut tx).await? == 0 {
        let now = tx.now();
        for (id, name, vcpus, memory_mib, disk_gib) in FLAVORS {
            let flavor = store::compute::flavors::Flavor::new(id, name, *vcpus, *memory_mib, *disk_gib, now);
            store::compute::flavors::insert(&mut tx, &flavor).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
