//! The operator's policy file: read at the start, and again whenever it changes. The kernel says when: nothing polls.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use model::doctor::Finding;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::watch};
use web::{
    App,
    policy::{Policy, Rule},
};

/// Every service's rules.
pub fn tables() -> [&'static [Rule]; 7] {
    [
        identity::policy::RULES,
        identity::policy::OWN_RULES,
        image::policy::RULES,
        network::policy::POLICY,
        compute::policy::RULES,
        placement::policy::RULES,
        cloud::policy::POLICY,
    ]
}

/// The rules with a file's changes; without a file, the defaults.
pub fn load(path: Option<&Path>) -> anyhow::Result<Policy> {
    let text = match path {
        None => String::new(),
        Some(path) => fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
    };
    parse(&text).map_err(|why| match path {
        None => anyhow!(why),
        Some(path) => anyhow!("{}: {why}", path.display()),
    })
}

fn parse(text: &str) -> Result<Policy, String> {
    Policy::new(&tables(), &Policy::overrides_from_yaml(text)?)
}

/// A policy file that is watched.
pub struct PolicyFile {
    path: PathBuf,
    /// What is wrong with the file as it is now; the rules in force are then those of before.
    wrong: watch::Sender<Option<String>>,
}

impl PolicyFile {
    /// This file. Whoever makes one has loaded it already.
    pub fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), wrong: watch::Sender::new(None) })
    }

    /// For the doctor: a file that was refused, rules in it that have no effect.
    pub fn findings(&self, in_force: &Policy) -> Vec<Finding> {
        let finding = |problem: String| Finding::new("policy", self.path.display().to_string(), problem);
        let refused = self.wrong.borrow().clone();
        let refused = refused.map(|why| format!("the file is refused, the rules of before hold: {why}"));
        refused.into_iter().chain(in_force.warnings().iter().cloned()).map(finding).collect()
    }

    /// Puts each new version of the file in force, until told to stop.
    pub async fn follow(&self, app: &App, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        if let Err(error) = self.watch(app, &mut stopped).await {
            tracing::error!(file = %self.path.display(), %error, "the policy file can't be watched");
            let why = format!("it can't be watched ({error}), changes wait for a restart");
            self.wrong.send_replace(Some(why));
            stopped.await;
        }
    }

    async fn watch(&self, app: &App, mut stopped: &mut (impl Future<Output = ()> + Unpin)) -> io::Result<()> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        watch_folders(&inotify, &self.path)?;
        // Any descriptor that can be polled and read will do; what the events say does not matter.
        let mut events = pipe::Receiver::from_owned_fd_unchecked(inotify)?;
        // What was written between the start and the watch.
        let mut last = String::new();
        self.take(app, &mut last);
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                () = &mut stopped => return Ok(()),
                read = events.read(&mut buffer) => read?,
            };
            watch_folders(&events, &self.path)?;
            self.take(app, &mut last);
        }
    }

    /// Reads the file; if it says something new and is whole, it counts from the next request on.
    fn take(&self, app: &App, last: &mut String) {
        let text = fs::read_to_string(&self.path);
        if text.as_ref().is_ok_and(|text| text == last) {
            return;
        }
        *last = text.as_ref().cloned().unwrap_or_default();
        let loaded = text.map_err(|e| format!("it can't be read: {e}")).and_then(|text| parse(&text));
        let wrong = match loaded {
            Ok(policy) => {
                let warnings = policy.warnings().len();
                tracing::info!(file = %self.path.display(), warnings, "the policy file is in force");
                app.set_policy(policy);
                None
            }
            Err(why) => {
                tracing::error!(file = %self.path.display(), why, "the policy file is refused, the rules of before hold");
                Some(why)
            }
        };
        self.wrong.send_replace(wrong);
    }
}

/// Watches the folders in which a file and, if it is a link, its target lie: editors and configuration managers replace
/// files rather than write into them. Those that are watched already stay so.
fn watch_folders(inotify: impl AsFd, file: &Path) -> io::Result<()> {
    let of_target = fs::canonicalize(file).ok();
    let folders: BTreeSet<PathBuf> =
        [Some(file.to_owned()), of_target].into_iter().flatten().filter_map(|path| folder(&path)).collect();
    for folder in folders {
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE;
        inotify::add_watch(&inotify, &folder, events | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR)?;
    }
    Ok(())
}

fn folder(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use testkit::{TestDb, auth::FakeAuth};

    use super::*;

    const RULE: &str = "identity:list_users";

    /// A file that is followed, and what it said last of itself.
    async fn followed(path: &Path) -> (Arc<App>, watch::Receiver<Option<String>>, Arc<PolicyFile>) {
        let db = TestDb::sqlite().await;
        let app = App::new(db.clone(), Vec::new(), Arc::new(FakeAuth), load(Some(path)).unwrap(), "http").unwrap();
        let file = PolicyFile::new(path);
        let mut told = file.wrong.subscribe();
        let (following, to) = (file.clone(), app.clone());
        tokio::spawn(async move { following.follow(&to, std::future::pending()).await });
        told.changed().await.unwrap();
        (app, told, file)
    }

    fn in_force(app: &App) -> String {
        app.policy().check(RULE).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_changed_file_holds_at_once_and_a_broken_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let write = |check: &str| fs::write(&path, format!("\"{RULE}\": \"{check}\"\n")).unwrap();
        write("role:one");
        let (app, mut told, file) = followed(&path).await;
        assert_eq!(in_force(&app), "role:one");
        // Written into.
        write("role:two");
        while in_force(&app) != "role:two" {
            told.changed().await.unwrap();
        }
        // Replaced, as editors do.
        let other = folder.path().join("new");
        fs::write(&other, format!("{RULE}: role:three")).unwrap();
        fs::rename(&other, &path).unwrap();
        while in_force(&app) != "role:three" {
            told.changed().await.unwrap();
        }
        // Broken: what held goes on to hold, and the doctor says why.
        write("role:four and");
        told.wait_for(|wrong| wrong.as_ref().is_some_and(|why| why.contains(RULE))).await.unwrap();
        assert_eq!(in_force(&app), "role:three");
        let findings = file.findings(&app.policy());
        assert!(findings[0].problem.contains("missing at the end"), "{findings:?}");
        write("role:five");
        told.wait_for(Option::is_none).await.unwrap();
        assert_eq!(in_force(&app), "role:five");
        assert!(file.findings(&app.policy()).is_empty());
        // Gone: not a reason to give everybody the defaults.
        fs::remove_file(&path).unwrap();
        told.wait_for(Option::is_some).await.unwrap();
        assert_eq!(in_force(&app), "role:five");
    }

    /// As Kubernetes mounts configuration: a link to a link, which is moved.
    #[tokio::test]
    async fn a_link_that_moves_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, check) in [("v1", "role:one"), ("v2", "role:two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("policy.yaml"), format!("{RULE}: {check}")).unwrap();
        }
        symlink("v1", at("data")).unwrap();
        symlink("data/policy.yaml", at("policy.yaml")).unwrap();
        let (app, mut told, _file) = followed(&at("policy.yaml")).await;
        assert_eq!(in_force(&app), "role:one");
        symlink("v2", at("data.new")).unwrap();
        fs::rename(at("data.new"), at("data")).unwrap();
        while in_force(&app) != "role:two" {
            told.changed().await.unwrap();
        }
    }
}
