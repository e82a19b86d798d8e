"""A machine under emulation, and what its tests need around it: disks, config drives, keys. Used by the tests of the images.

Nothing sleeps: waits end at a line of the serial log, a QMP event or the end of the process, or fail at their deadline.
"""

import json
import os
import pathlib
import queue
import socket
import subprocess
import sys
import threading
import time

BOOT_DEADLINE = 60

# How each kind of disk is attached, on the machine type that has it: q35's own SATA needs a driver that cloud kernels lack.
DISKS = {
    "virtio": ("q35", ["-device", "virtio-blk-pci,drive=disk0"]),
    "scsi": ("q35", ["-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-hd,drive=disk0"]),
    "ide": ("pc", ["-device", "ide-hd,drive=disk0"]),
}


def enter_namespace():
    """Starts this program again in a network namespace of its own, with nothing but loopback in it."""
    if os.environ.get("NACRE_TEST_NAMESPACE") != "1":
        os.environ["NACRE_TEST_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Guest:
    """One running machine."""

    def __init__(self, folder, disk, kind="virtio", drive=None, network="restrict=on", blank_disk=False, memory_mib=128,
                 user="nacre", extra=()):
        self.folder = folder
        self.user = user
        self.port = free_port()
        machine, disk_device = DISKS[kind]
        command = [
            "qemu-system-x86_64", "-M", machine, "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(memory_mib), "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
            "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off",
            "-blockdev", f"driver=qcow2,node-name=disk0,file.driver=file,file.filename={disk}", *disk_device,
            "-netdev", f"user,id=net0,{network},hostfwd=tcp:127.0.0.1:{self.port}-:22",
            "-device", "virtio-net-pci,netdev=net0",
            "-netdev", "user,id=net1,restrict=on,net=10.9.0.0/24", "-device", "virtio-net-pci,netdev=net1",
            "-device", "virtio-rng-pci", *extra,
        ]
        if drive:
            command += ["-drive", f"if=none,id=drive,format=raw,readonly=on,file={drive}", "-device", "virtio-blk-pci,drive=drive"]
        if blank_disk:
            blank = folder / "blank.img"
            blank.touch()
            os.truncate(blank, 16 << 20)
            command += ["-drive", f"if=none,id=blank,format=raw,file={blank}", "-device", "virtio-blk-pci,drive=blank"]
        self.started = time.monotonic()
        self.console = ""       # all that was read of the serial console,
        self.seen = 0           # and how far it was waited for
        self.chunks = queue.Queue()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._read_serial, daemon=True).start()

    def _read_serial(self):
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self.chunks.put(chunk.decode(errors="replace"))
        self.chunks.put(None)

    def wait_for(self, text, seconds=BOOT_DEADLINE):
        """Reads the serial console until `text` comes; gives the seconds since the machine's start."""
        deadline = time.monotonic() + seconds
        while (at := self.console.find(text, self.seen)) < 0:
            try:
                chunk = self.chunks.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                chunk = None
            if chunk is None:
                last = "\n".join(self.console.splitlines()[-30:])
                raise AssertionError(f"no {text!r} on the console within {seconds} s; the last lines:\n{last}")
            self.console += chunk
        self.seen = at + len(text)
        return time.monotonic() - self.started

    def type(self, text):
        """Writes to the serial console."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def ssh(self, command, key, seconds=60):
        """What a command prints that must succeed."""
        result = subprocess.run(
            ["ssh", "-i", key, "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}",
             f"{self.user}@127.0.0.1", command],
            capture_output=True, text=True, timeout=seconds)
        if result.returncode != 0:
            raise AssertionError(f"{command!r} ended with {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout.strip()

    def power_button(self, seconds=30):
        """Presses it and waits for the machine's end; gives the seconds that took."""
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(10)
            qmp.connect(str(self.folder / "qmp.sock"))
            stream = qmp.makefile("rw")
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                stream.readline()
            pressed = time.monotonic()
            self.process.wait(timeout=seconds)
            return time.monotonic() - pressed

    def cpu_seconds(self):
        """What the emulation has cost: steadier than the clock on a busy machine."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def overlay(folder, image, size=None):
    disk = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, disk, *([size] if size else [])], check=True)
    return disk


def metadata_folder(folder, name, uuid, keys, user_data):
    latest = folder / "openstack/latest"
    latest.mkdir(parents=True, exist_ok=True)
    meta = {"uuid": uuid, "hostname": f"{name}.example.test", "name": name, "public_keys": {f"key{i}": key for i, key in enumerate(keys)}}
    (latest / "meta_data.json").write_text(json.dumps(meta))
    (latest / "user_data").write_text(user_data)
    return folder / "openstack"


def config_drive(folder, tree):
    drive = folder / "config.img"
    drive.unlink(missing_ok=True)
    subprocess.run(["mkfs.vfat", "-C", "-n", "config-2", drive, "1024"], check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-i", drive, tree, "::"], check=True)
    return drive


def new_key(folder, kind):
    path = folder / f"key-{kind}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path], check=True)
    return path, path.with_suffix(".pub").read_text().strip()


def report(what, detail=""):
    """One line for each promise kept."""
    print(f"ok    {what}{': ' if detail else ''}{detail}", flush=True)
