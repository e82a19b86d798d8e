//! The passwords of the first users. The master key lies beside them and belongs to `identity`.

use std::{fs, path::Path};

use anyhow::Context;

use crate::layout::{Layout, write_private};

/// The secrets of an installation.
pub struct Secrets {
    /// Of the user `admin`.
    pub admin_password: String,
    /// Of the user `demo`.
    pub demo_password: String,
}

impl Secrets {
    /// Reads them, and makes those that are not there yet.
    pub fn load_or_create(layout: &Layout) -> anyhow::Result<Self> {
        let dir = layout.secrets();
        let password = || hex::encode(rand::random::<[u8; 16]>());
        Ok(Self {
            admin_password: read_or_create(&dir.join("admin.password"), password)?,
            demo_password: read_or_create(&dir.join("demo.password"), password)?,
        })
    }
}

fn read_or_create(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let text = make();
            write_private(path, format!("{text}\n").as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            Ok(text)
        }
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}
