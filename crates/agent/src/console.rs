//! Guests' consoles, connected to the control plane when it asks; and what is counted about guests, in its words.

use drivers::hypervisor::{Counters, HypervisorError};
use hostlink::{ConsoleBytes, ConsoleKind, Diagnostics, DiskCounters, NicCounters, OpenConsole};
use model::id::ServerId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::host::Host;

/// Read from a console at once; pieces that may wait for the network.
const PIECE_BYTES: usize = 16 << 10;
const PIECES_WAITING: usize = 8;

/// Connects a console to a new stream of the control plane, and carries bytes until one side ends.
pub(crate) async fn open(host: &Host, ask: &OpenConsole) -> Result<(), HypervisorError> {
    let consoles = host.drivers.hypervisor.consoles(&ServerId::new(ask.server_id.clone())).await?;
    let path = if ask.kind() == ConsoleKind::Serial { consoles.serial } else { consoles.vnc };
    let socket = UnixStream::connect(&path).await.map_err(HypervisorError::io("connect to a guest's console"))?;
    let away = || HypervisorError::Channel("the control plane is not connected".to_owned());
    let (mut client, host_id) = host.images.link().ok_or_else(away)?;
    let (outgoing, queue) = mpsc::channel(PIECES_WAITING);
    let first = ConsoleBytes { host_id, session: ask.session.clone(), ..ConsoleBytes::default() };
    // There is room for the first.
    let _ = outgoing.try_send(first);
    let mut incoming = client
        .console(ReceiverStream::new(queue))
        .await
        .map_err(|status| HypervisorError::Channel(status.message().to_owned()))?
        .into_inner();
    let stop = host.stop.clone();
    tokio::spawn(async move {
        let (mut from_guest, mut to_guest) = socket.into_split();
        let read = async {
            loop {
                let mut data = Vec::with_capacity(PIECE_BYTES);
                match from_guest.read_buf(&mut data).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let message = ConsoleBytes { data: data.into(), ..ConsoleBytes::default() };
                if outgoing.send(message).await.is_err() {
                    return;
                }
            }
        };
        let write = async {
            while let Ok(Some(message)) = incoming.message().await {
                if to_guest.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = write => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

/// Counters in the control plane's words.
pub(crate) fn diagnostics(counters: Counters) -> Diagnostics {
    let disk = |disk: drivers::hypervisor::DiskCounters| DiskCounters {
        read_bytes: disk.read_bytes,
        read_requests: disk.read_requests,
        write_bytes: disk.write_bytes,
        write_requests: disk.write_requests,
        errors: disk.errors,
    };
    let nic = |nic: drivers::hypervisor::NicCounters| NicCounters {
        mac: nic.mac,
        rx_bytes: nic.rx_bytes,
        rx_packets: nic.rx_packets,
        rx_errors: nic.rx_errors,
        rx_dropped: nic.rx_dropped,
        tx_bytes: nic.tx_bytes,
        tx_packets: nic.tx_packets,
        tx_errors: nic.tx_errors,
        tx_dropped: nic.tx_dropped,
    };
    Diagnostics {
        cpus: counters.cpus,
        cpu_time_nanos: u64::try_from(counters.cpu_time.as_nanos()).unwrap_or(u64::MAX),
        memory_mib: counters.memory_mib,
        memory_used_mib: counters.memory_used_mib,
        uptime_seconds: counters.uptime.as_secs(),
        disks: counters.disks.into_iter().map(disk).collect(),
        nics: counters.nics.into_iter().map(nic).collect(),
    }
}
