//! What is known of a server at this moment, and the report made of it.

use std::collections::BTreeMap;

use drivers::hypervisor::{Consoles, GuestEnd, GuestPower, ObservedGuest};
use hostlink::{Phase, PortReport, Power, ServerReport};

use super::logic;
use crate::ledger::Entry;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) generation: i64,
    pub(super) phase: Phase,
    pub(super) power: Power,
    pub(super) fault: String,
    pub(super) fault_is_final: bool,
    pub(super) attempts: u32,
    /// There is a process: a crashed guest may have one or not.
    pub(super) is_on: bool,
    boot: u64,
    /// Why the guest ended, if it crashed.
    crash: String,
    pid: Option<u32>,
    vnc_socket: String,
    serial_socket: String,
    /// Ports of the spec, and whether they are plugged.
    pub(super) ports: BTreeMap<String, bool>,
    /// What was told last.
    last: Option<ServerReport>,
}

impl Status {
    /// Nothing is known yet.
    pub(super) fn pending(generation: i64) -> Self {
        Self { generation, phase: Phase::Pending, ..Self::default() }
    }

    pub(super) fn observe(&mut self, guest: Option<&ObservedGuest>) {
        self.power = logic::power(guest);
        self.is_on = guest.is_some_and(|g| g.power.is_on());
        self.boot = guest.map_or(0, |g| g.boot);
        self.crash = match guest.map(|g| &g.power) {
            Some(GuestPower::Off { end: GuestEnd::Crashed(reason) }) => format!("the guest crashed: {reason}"),
            Some(GuestPower::Panicked) => "the guest's system reported that it crashed".to_owned(),
            _ => String::new(),
        };
        self.pid = guest.and_then(|g| g.pid);
        if !guest.is_some_and(|g| g.power.is_on()) {
            self.vnc_socket.clear();
            self.serial_socket.clear();
        }
    }

    pub(super) fn set_consoles(&mut self, consoles: &Consoles) {
        self.vnc_socket = consoles.vnc.display().to_string();
        self.serial_socket = consoles.serial.display().to_string();
    }

    /// A server that is wanted off and is off is shut down, however it came to be so.
    pub(super) fn settle_off(&mut self) {
        self.power = Power::Shutdown;
        self.crash.clear();
    }

    /// All is as wanted, or off by itself.
    pub(super) fn settle(&mut self) {
        self.phase = Phase::Settled;
        self.fault.clear();
        self.fault_is_final = false;
        self.attempts = 0;
    }

    /// The report of this moment.
    pub(super) fn report(&self, entry: &Entry, is_active: impl Fn(&str) -> bool) -> ServerReport {
        let is_on = matches!(self.power, Power::Running | Power::Paused);
        let boot = i64::try_from(self.boot).unwrap_or(i64::MAX);
        let ports = self.ports.iter().map(|(id, plugged)| PortReport {
            port_id: id.clone(),
            plugged: *plugged,
            active: *plugged && is_active(id),
        });
        ServerReport {
            server_id: entry.server_id.clone(),
            generation: self.generation,
            phase: self.phase.into(),
            power: self.power.into(),
            fault: if self.fault.is_empty() { self.crash.clone() } else { self.fault.clone() },
            fault_is_final: self.fault_is_final,
            attempts: self.attempts,
            boot,
            started_at: if is_on && entry.started_boot == boot { entry.started_at } else { 0 },
            pid: self.pid.unwrap_or(0),
            ports: ports.collect(),
            vnc_socket: self.vnc_socket.clone(),
            serial_socket: self.serial_socket.clone(),
            encrypted_password: entry.password.clone(),
            sequence: 0,
            refused_generation: 0,
        }
    }

    /// Whether the report says anything that the last one did not; it is the last one from now on.
    pub(super) fn is_news(&mut self, report: &ServerReport) -> bool {
        let news = self.last.as_ref() != Some(report);
        if news {
            self.last = Some(report.clone());
        }
        news
    }
}
