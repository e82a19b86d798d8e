//! Guests of 512 bytes, assembled by hand, 16-bit. Each says `up\n` on the first serial port, then does its one thing.

use drivers::hypervisor::fake::Behaviour;

/// SeaBIOS reads nothing from a disk smaller than one cylinder, 504 KiB.
const DISK_BYTES: usize = 1 << 20;

/// `dx` = 0x3f8; says one character.
fn say(character: u8) -> [u8; 6] {
    [0xba, 0xf8, 0x03, 0xb0, character, 0xee] // mov dx, 0x3f8; mov al, character; out dx, al
}

/// Writes 0x2000 (sleep enable, type 0: soft off) to the board's power management control register.
const POWER_OFF: [u8; 7] = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef]; // mov dx, 0x604; mov ax, 0x2000; out dx, ax

/// The boot sector of a system that behaves so.
pub fn that(behaviour: Behaviour) -> Vec<u8> {
    let mut code = vec![0xfb]; // sti: the timer ends each hlt after 55 ms
    let up = [say(b'u'), say(b'p'), say(b'\n')].concat();
    match behaviour {
        Behaviour::IgnoresPowerButton => {
            code.extend(&up);
            code.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back to it
        }
        Behaviour::PowersOff => {
            code.extend(&up);
            code.extend(POWER_OFF);
        }
        Behaviour::Panics => {
            code.extend(&up);
            code.extend([0xba, 0x05, 0x05, 0xb0, 0x01, 0xee]); // mov dx, 0x505 (pvpanic); mov al, 1; out dx, al
            code.extend([0xf4, 0xeb, 0xfd]);
        }
        Behaviour::Cooperates => {
            code.extend([0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef]); // mov dx, 0x602; mov ax, 0x100; out: enable the button
            let again = code.len();
            code.extend(&up);
            code.push(0xf4); // hlt
            code.extend([0xba, 0x00, 0x06, 0xed]); // mov dx, 0x600; in ax, dx
            code.extend([0xf6, 0xc4, 0x01]); // test ah, 1: pressed?
            let back = again as isize - (code.len() as isize + 2);
            code.extend([0x74, i8::try_from(back).unwrap().cast_unsigned()]); // jz again
            code.extend(POWER_OFF);
        }
    }
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code.resize(DISK_BYTES, 0);
    code
}
