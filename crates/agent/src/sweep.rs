//! Drops cached base images that no server here has used for a while.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use drivers::disk::{DiskError, Inventory};
use model::{Timestamp, id::ImageId};
use tokio::time::{MissedTickBehavior, interval};

use crate::host::Host;

/// Runs until the process ends. An image counts as unused from when this process first saw it so: a restart gives every
/// image its full time again, which errs on the side of keeping.
pub(crate) async fn run(host: Arc<Host>) {
    let mut ticks = interval(host.config.limits.image_sweep);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unused = HashMap::new();
    loop {
        tokio::select! {
            () = host.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let inventory = match host.drivers.disks.list().await {
            Ok(inventory) => inventory,
            Err(error) => {
                tracing::warn!(%error, "cached images can't be listed");
                continue;
            }
        };
        let now = host.config.clock.now();
        note_unused(&mut unused, &inventory, now);
        for image in
            unused.iter().filter(|(_, since)| now.since(**since) >= host.config.limits.image_unused).map(|(i, _)| i)
        {
            match host.drivers.disks.remove_base(image).await {
                Ok(()) => tracing::info!(%image, "unused image dropped"),
                Err(DiskError::InUse { .. }) => {} // A server came in this moment.
                Err(error) => tracing::warn!(%image, %error, "unused image not dropped"),
            }
        }
    }
}

/// Since when each cached image has been without a server.
fn note_unused(unused: &mut HashMap<ImageId, Timestamp>, inventory: &Inventory, now: Timestamp) {
    let used: HashSet<&ImageId> = inventory.servers.iter().filter_map(|server| server.base.as_ref()).collect();
    let idle: HashSet<&ImageId> =
        inventory.bases.iter().map(|base| &base.image).filter(|i| !used.contains(i)).collect();
    unused.retain(|image, _| idle.contains(image));
    for image in idle {
        unused.entry(image.clone()).or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use drivers::disk::{BaseImage, DiskFormat, ServerDisks};
    use model::id::ServerId;

    use super::*;

    #[test]
    fn time_counts_from_when_the_last_user_left() {
        let base = |id: &str| BaseImage {
            image: ImageId::new(id),
            path: "/b".into(),
            format: DiskFormat::Raw,
            size_bytes: 1,
            virtual_bytes: 1,
        };
        let user =
            |id: &str| ServerDisks { server: ServerId::new("s"), base: Some(ImageId::new(id)), allocated_bytes: 1 };
        let mut unused = HashMap::new();
        let mut see = |bases: &[&str], users: &[&str], at| {
            let inventory = Inventory {
                bases: bases.iter().map(|id| base(id)).collect(),
                servers: users.iter().map(|id| user(id)).collect(),
                strays: Vec::new(),
            };
            note_unused(&mut unused, &inventory, Timestamp(at));
            let mut seen: Vec<(String, i64)> = unused.iter().map(|(id, t)| (id.to_string(), t.0)).collect();
            seen.sort();
            seen
        };
        assert_eq!(see(&["a", "b"], &["b"], 1), [("a".to_owned(), 1)]);
        assert_eq!(see(&["a", "b"], &[], 2), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(see(&["a", "b"], &["a"], 3), [("b".to_owned(), 2)]);
        assert_eq!(see(&["a"], &[], 4), [("a".to_owned(), 4)], "used in between; the other is gone");
    }
}
