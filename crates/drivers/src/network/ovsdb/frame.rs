//! Cuts the byte stream of a JSON-RPC connection into messages.
//!
//! OVSDB writes JSON objects one after the other with nothing between them. Scanning for the closing brace looks at
//! every byte once, however a large reply is split over reads; parsing again and again until it succeeds would not.

use bytes::BytesMut;

/// The largest message we take: a database dump of a million ports stays below.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Finds where messages end.
#[derive(Default)]
pub(super) struct Framer {
    buffer: BytesMut,
    scanned: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Framer {
    /// Takes what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the peer sends a message beyond the limit.
    pub(super) fn too_large(&self) -> bool {
        self.buffer.len() > MESSAGE_BYTES_MAX
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.buffer.split_to(std::mem::take(&mut self.scanned)));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_are_split() {
        let stream = br#"{"a":"}\"{"}{"b":[1,{"c":"\\"}]} {"d":{}}"#;
        for size in 1..stream.len() {
            let mut framer = Framer::default();
            let mut out = Vec::new();
            for piece in stream.chunks(size) {
                framer.push(piece);
                while let Some(message) = framer.next() {
                    out.push(std::str::from_utf8(&message).unwrap().trim().to_owned());
                }
            }
            assert_eq!(out, [r#"{"a":"}\"{"}"#, r#"{"b":[1,{"c":"\\"}]}"#, r#"{"d":{}}"#], "pieces of {size}");
        }
    }
}
