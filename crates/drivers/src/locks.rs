//! One lock per key, kept only while somebody holds or awaits it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Locks of kind `L` by key.
pub struct Locks<K, L>(Mutex<HashMap<K, Arc<L>>>);

impl<K, L> Default for Locks<K, L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, L: Default> Locks<K, L> {
    /// The key's lock. Hold the `Arc` as long as the guard.
    pub fn get(&self, key: &K) -> Arc<L> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only this map holds them: nobody uses them, and nobody can get them while it is locked.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(key.clone()).or_default().clone()
    }
}
