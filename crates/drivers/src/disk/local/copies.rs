//! Copies of root disks: the checkpoint inside one, and files that stand for themselves.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use model::id::{ImageId, ServerId};
use tokio::{process::Command, time::timeout};

use super::{
    super::{CHECKPOINT, DiskError, Result},
    Access, COPY_TIME_MAX, LocalDisks, TOOL_TIME_MAX, blocking, checked, entries, remove_file,
};

impl LocalDisks {
    /// Has the root disk's checkpoint made, applied or dropped. Nothing to do where there is no root disk.
    pub(super) async fn checkpoint(&self, server: &ServerId, does: &[&'static str], if_there: bool) -> Result<()> {
        let lock = self.servers.get(server);
        let _turn = lock.lock().await;
        let path = self.files.server(server)?.join("root.qcow2");
        let looked = path.clone();
        let found = blocking("look for a checkpoint", move || Ok(looked.exists())).await?;
        if !found || self.has_checkpoint(&path).await? != if_there {
            return Ok(());
        }
        for what in does {
            let arguments = ["snapshot", "-q", *what, CHECKPOINT].map(Path::new);
            self.qemu_img(&[&arguments[..], &[&path]].concat()).await?;
        }
        Ok(())
    }

    async fn has_checkpoint(&self, path: &Path) -> Result<bool> {
        let program = &self.files.config.qemu_img;
        let listed = Command::new(program).arg("snapshot").arg("-l").arg(path).stdin(Stdio::null()).output();
        let tool = || format!("{} snapshot", program.display());
        let output = timeout(TOOL_TIME_MAX, listed)
            .await
            .map_err(|_| DiskError::Tool { tool: tool(), reason: format!("not done after {TOOL_TIME_MAX:?}") })?
            .map_err(DiskError::io(tool()))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(DiskError::Tool { tool: tool(), reason });
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().any(|line| line.split_whitespace().nth(1) == Some(CHECKPOINT)))
    }

    pub(super) async fn export(&self, server: &ServerId, image: &ImageId, snapshot: Option<&str>) -> Result<PathBuf> {
        let lock = self.servers.get(server);
        let _turn = lock.lock().await;
        let folder = self.files.server(server)?;
        let path = folder.join(format!("export-{}.qcow2", checked(image.as_str())?));
        let draft = path.with_extension("draft");
        let (there, stale) = (path.clone(), draft.clone());
        let found = blocking("look for an export", move || {
            remove_file(&stale)?;
            Ok(there.exists())
        })
        .await?;
        if found {
            return Ok(path);
        }
        let root = folder.join("root.qcow2");
        let named = snapshot.map(|name| format!("snapshot.name={name}"));
        let mut arguments = ["convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2"].map(Path::new).to_vec();
        if let Some(named) = &named {
            arguments.extend([Path::new("-l"), Path::new(named)]);
        }
        arguments.extend([root.as_path(), draft.as_path()]);
        self.qemu_img_within(&arguments, COPY_TIME_MAX).await?;
        let (files, kept) = (self.files.clone(), path.clone());
        blocking("keep an export", move || files.keep(&draft, &kept, Access::Read)).await?;
        Ok(path)
    }

    /// Removes files of the server that are called so.
    pub(super) async fn remove_files(&self, server: &ServerId, is_one: fn(&str) -> bool) -> Result<()> {
        let lock = self.servers.get(server);
        let _turn = lock.lock().await;
        let folder = self.files.server(server)?;
        blocking("remove a server's files", move || {
            for path in entries(&folder)? {
                if path.file_name().and_then(|name| name.to_str()).is_some_and(is_one) {
                    remove_file(&path)?;
                }
            }
            Ok(())
        })
        .await
    }
}
