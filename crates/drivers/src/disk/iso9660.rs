//! Writing an ISO 9660 file system: the config drive's.
//!
//! The plain standard knows names of eight capital letters, so every directory is written twice: once like that (which
//! nobody reads) and once as Joliet with the real names, which Linux, the BSDs and Windows read. The same files give the
//! same bytes, whenever it is done: times are constant, and a config drive is rewritten only when its content changes.
//!
//! ```text
//! sector 0-15  nothing          19.. path tables: plain little/big endian, Joliet little/big endian
//!        16    plain volume          directories: plain, Joliet
//!        17    Joliet volume         files' content, shared by both
//!        18    end of volumes
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::ConfigFile;

const SECTOR: usize = 2048;
const FIRST_FREE_SECTOR: usize = 19;
/// Largest sum of all files: a config drive holds some JSON and user-data.
const CONTENT_BYTES_MAX: usize = 64 << 20;
/// Joliet's limit.
const NAME_CHARS_MAX: usize = 64;
const NAMES_PER_PATH_MAX: usize = 7;
/// 2026-01-01 00:00:00 UTC: years since 1900, month, day, hour, minute, second, quarter hours from Greenwich.
const RECORD_TIME: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];
const VOLUME_TIME: &[u8; 17] = b"2026010100000000\0";
const NO_TIME: &[u8; 17] = b"0000000000000000\0";

/// The file system's bytes, or what is wrong with the files.
pub fn image(label: &str, files: &[ConfigFile]) -> Result<Vec<u8>, String> {
    let tree = Tree::of(files)?;
    let layout = Layout::of(&tree, files);
    let mut image = vec![0; layout.sectors * SECTOR];
    let mut put =
        |sector: usize, bytes: &[u8]| image[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
    put(16, &volume(Dialect::Plain, label, &layout));
    put(17, &volume(Dialect::Joliet, label, &layout));
    put(18, b"\xffCD001\x01");
    for dialect in Dialect::BOTH {
        let place = &layout.places[dialect as usize];
        put(place.little_table, &path_table(&tree, dialect, place, u16::to_le_bytes, u32::to_le_bytes));
        put(place.big_table, &path_table(&tree, dialect, place, u16::to_be_bytes, u32::to_be_bytes));
        for (index, sector) in place.directories.iter().enumerate() {
            put(*sector, &directory(&tree, index, dialect, &layout, files));
        }
    }
    for (file, sector) in files.iter().zip(&layout.contents) {
        put(*sector, &file.content);
    }
    Ok(image)
}

/// The two ways in which every directory is written.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Plain,
    Joliet,
}

impl Dialect {
    const BOTH: [Self; 2] = [Self::Plain, Self::Joliet];

    fn name_bytes(self, entry: &Entry) -> Vec<u8> {
        match self {
            Self::Plain => entry.plain_name.clone().into_bytes(),
            Self::Joliet => utf16(&entry.name),
        }
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Directories by number, breadth first, as path tables want them; the root is number 0.
struct Tree(Vec<Directory>);

#[derive(Default)]
struct Directory {
    parent: usize,
    /// Its own names in its parent; the root has none.
    own: Option<Entry>,
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    name: String,
    plain_name: String,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Directory(usize),
    File(usize),
}

/// A directory while the tree is collected: names in order.
#[derive(Default)]
struct Draft(BTreeMap<String, DraftEntry>);

enum DraftEntry {
    Directory(Draft),
    File(usize),
}

impl Tree {
    fn of(files: &[ConfigFile]) -> Result<Self, String> {
        if files.iter().map(|file| file.content.len()).sum::<usize>() > CONTENT_BYTES_MAX {
            return Err(format!("a config drive holds at most {CONTENT_BYTES_MAX} bytes"));
        }
        let mut root = Draft::default();
        for (index, file) in files.iter().enumerate() {
            let names: Vec<&str> = file.path.split('/').collect();
            let fits = |name: &&str| {
                let length = name.encode_utf16().count();
                let forbidden = |c: char| c < ' ' || "*/:;?\\".contains(c);
                (1..=NAME_CHARS_MAX).contains(&length) && !name.chars().any(forbidden) && !matches!(*name, "." | "..")
            };
            if names.len() > NAMES_PER_PATH_MAX || !names.iter().all(fits) {
                return Err(format!("{:?} can't be a path on a config drive", file.path));
            }
            root.insert(&names, index).map_err(|()| format!("{:?} is there twice", file.path))?;
        }
        Ok(Self::numbered(root))
    }

    fn numbered(root: Draft) -> Self {
        let mut directories = vec![Directory::default()];
        let mut waiting = vec![root];
        // Breadth first: `waiting[i]` is the content of directory number i.
        let mut next = 0;
        while next < waiting.len() {
            let draft = std::mem::take(&mut waiting[next]);
            let mut taken = BTreeSet::new();
            for (name, entry) in draft.0 {
                let is_file = matches!(entry, DraftEntry::File(_));
                let plain_name = plain_name(&name, is_file, &mut taken);
                let what = match entry {
                    DraftEntry::File(file) => What::File(file),
                    DraftEntry::Directory(draft) => {
                        waiting.push(draft);
                        What::Directory(waiting.len() - 1)
                    }
                };
                let entry = Entry { name, plain_name, what };
                if let What::Directory(_) = what {
                    directories.push(Directory { parent: next, own: Some(entry.clone()), entries: Vec::new() });
                }
                directories[next].entries.push(entry);
            }
            next += 1;
        }
        Self(directories)
    }
}

impl Draft {
    fn insert(&mut self, names: &[&str], file: usize) -> Result<(), ()> {
        let Some((name, rest)) = names.split_first() else { return Err(()) };
        if rest.is_empty() {
            return match self.0.insert((*name).to_owned(), DraftEntry::File(file)) {
                None => Ok(()),
                Some(_) => Err(()),
            };
        }
        match self.0.entry((*name).to_owned()).or_insert_with(|| DraftEntry::Directory(Draft::default())) {
            DraftEntry::Directory(below) => below.insert(rest, file),
            DraftEntry::File(_) => Err(()),
        }
    }
}

/// A name of eight and three capital letters that nobody in the directory has yet.
fn plain_name(name: &str, is_file: bool, taken: &mut BTreeSet<String>) -> String {
    let letters = |text: &str, most: usize| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(plain).take(most).collect()
    };
    let (stem, extension) = name.rsplit_once('.').filter(|_| is_file).unwrap_or((name, ""));
    let finished = |stem: String| match is_file {
        true => format!("{stem}.{};1", letters(extension, 3)),
        false => stem,
    };
    let numbered = (1..10_000).map(|number| format!("{}{number:04}", letters(stem, 4)));
    let free = std::iter::once(letters(stem, 8)).chain(numbered).map(finished).find(|name| !taken.contains(name));
    let name = free.unwrap_or_default();
    taken.insert(name.clone());
    name
}

/// Which sector everything begins at.
struct Layout {
    places: [Place; 2],
    contents: Vec<usize>,
    sectors: usize,
}

struct Place {
    little_table: usize,
    big_table: usize,
    table_bytes: usize,
    directories: Vec<usize>,
    directory_bytes: Vec<usize>,
}

impl Layout {
    fn of(tree: &Tree, files: &[ConfigFile]) -> Self {
        let mut next = FIRST_FREE_SECTOR;
        let mut take = |bytes: usize| {
            let at = next;
            next += bytes.div_ceil(SECTOR).max(1);
            at
        };
        let table_bytes = Dialect::BOTH.map(|dialect| {
            let record = |directory: &Directory| 8 + own_name(directory, dialect).len().next_multiple_of(2);
            tree.0.iter().map(record).sum::<usize>()
        });
        let tables = table_bytes.map(|bytes| (take(bytes), take(bytes)));
        let directory_bytes = Dialect::BOTH.map(|dialect| -> Vec<usize> {
            tree.0.iter().map(|directory| directory_length(directory, dialect)).collect()
        });
        let directories =
            [0, 1].map(|i: usize| directory_bytes[i].iter().map(|bytes| take(*bytes)).collect::<Vec<_>>());
        let contents = files.iter().map(|file| take(file.content.len())).collect();
        let [plain_directories, joliet_directories] = directories;
        let [plain_bytes, joliet_bytes] = directory_bytes;
        let place = |i: usize, directories, directory_bytes| Place {
            little_table: tables[i].0,
            big_table: tables[i].1,
            table_bytes: table_bytes[i],
            directories,
            directory_bytes,
        };
        let places = [place(0, plain_directories, plain_bytes), place(1, joliet_directories, joliet_bytes)];
        Self { places, contents, sectors: next }
    }
}

fn own_name(directory: &Directory, dialect: Dialect) -> Vec<u8> {
    directory.own.as_ref().map_or(vec![0], |entry| dialect.name_bytes(entry))
}

fn record_length(name: &[u8]) -> usize {
    33 + name.len() + (name.len() + 1) % 2
}

/// A directory's length in whole sectors: a record doesn't cross a sector's end.
fn directory_length(directory: &Directory, dialect: Dialect) -> usize {
    let own_and_parent = 2 * record_length(&[0]);
    let end = directory.entries.iter().fold(own_and_parent, |at, entry| {
        let length = record_length(&dialect.name_bytes(entry));
        fitting(at, length) + length
    });
    end.next_multiple_of(SECTOR)
}

/// Where a record of that length goes if `at` is free.
fn fitting(at: usize, length: usize) -> usize {
    if at % SECTOR + length > SECTOR { at.next_multiple_of(SECTOR) } else { at }
}

fn directory(tree: &Tree, index: usize, dialect: Dialect, layout: &Layout, files: &[ConfigFile]) -> Vec<u8> {
    let place = &layout.places[dialect as usize];
    let this = &tree.0[index];
    let mut bytes = vec![0; place.directory_bytes[index]];
    let mut at = 0;
    let mut add = |name: &[u8], what: What| {
        let (sector, length) = match what {
            What::Directory(number) => (place.directories[number], place.directory_bytes[number]),
            What::File(number) => (layout.contents[number], files[number].content.len()),
        };
        let record = record(name, sector, length, matches!(what, What::Directory(_)));
        at = fitting(at, record.len());
        bytes[at..at + record.len()].copy_from_slice(&record);
        at += record.len();
    };
    add(&[0], What::Directory(index));
    add(&[1], What::Directory(this.parent));
    for entry in &this.entries {
        add(&dialect.name_bytes(entry), entry.what);
    }
    bytes
}

#[allow(clippy::cast_possible_truncation, reason = "sizes are bounded by CONTENT_BYTES_MAX, names by NAME_CHARS_MAX")]
fn record(name: &[u8], sector: usize, length: usize, is_directory: bool) -> Vec<u8> {
    let mut record = vec![record_length(name) as u8, 0];
    record.extend(both32(sector));
    record.extend(both32(length));
    record.extend(RECORD_TIME);
    record.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    record.resize(record_length(name), 0);
    record
}

#[allow(clippy::cast_possible_truncation, reason = "names are bounded by NAME_CHARS_MAX, directories by paths")]
fn path_table(
    tree: &Tree,
    dialect: Dialect,
    place: &Place,
    short: fn(u16) -> [u8; 2],
    long: fn(u32) -> [u8; 4],
) -> Vec<u8> {
    let mut table = Vec::new();
    for (directory, sector) in tree.0.iter().zip(&place.directories) {
        let name = own_name(directory, dialect);
        table.extend([name.len() as u8, 0]);
        table.extend(long(*sector as u32));
        table.extend(short(directory.parent as u16 + 1));
        table.extend(&name);
        table.resize(table.len().next_multiple_of(2), 0);
    }
    table
}

#[allow(clippy::cast_possible_truncation, reason = "sectors are bounded by CONTENT_BYTES_MAX")]
fn volume(dialect: Dialect, label: &str, layout: &Layout) -> Vec<u8> {
    let place = &layout.places[dialect as usize];
    let joliet = dialect == Dialect::Joliet;
    let text = |text: &str, length: usize| -> Vec<u8> {
        let mut bytes = if joliet { utf16(text) } else { text.as_bytes().to_vec() };
        bytes.truncate(length);
        let blank: &[u8] = if joliet { b"\0 " } else { b" " };
        while bytes.len() + blank.len() <= length {
            bytes.extend(blank);
        }
        bytes.resize(length, 0);
        bytes
    };
    let mut volume = vec![if joliet { 2 } else { 1 }];
    volume.extend(b"CD001\x01\0");
    volume.extend(text("", 32)); // system
    volume.extend(text(label, 32));
    volume.extend([0; 8]);
    volume.extend(both32(layout.sectors));
    let mut escapes = [0; 32];
    if joliet {
        escapes[..3].copy_from_slice(b"%/E"); // UCS-2, level 3
    }
    volume.extend(escapes);
    volume.extend([both16(1), both16(1), both16(SECTOR as u16)].concat()); // one volume, the first; block size
    volume.extend(both32(place.table_bytes));
    volume.extend((place.little_table as u32).to_le_bytes());
    volume.extend([0; 4]);
    volume.extend((place.big_table as u32).to_be_bytes());
    volume.extend([0; 4]);
    volume.extend(record(&[0], place.directories[0], place.directory_bytes[0], true));
    for length in [128, 128, 128, 128, 37, 37, 37] {
        // Set, publisher, preparer, application, copyright, abstract, bibliography.
        volume.extend(text("", length));
    }
    volume.extend([VOLUME_TIME, VOLUME_TIME, NO_TIME, NO_TIME].into_iter().flatten()); // created, changed, expires, effective
    volume.push(1);
    volume
}

fn both16(number: u16) -> [u8; 4] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

#[allow(clippy::cast_possible_truncation, reason = "sectors and sizes are bounded by CONTENT_BYTES_MAX")]
fn both32(number: usize) -> Vec<u8> {
    [(number as u32).to_le_bytes(), (number as u32).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> ConfigFile {
        ConfigFile { path: path.to_owned(), content: content.to_vec() }
    }

    /// Reads a file by its path, as an independent reader would: from the Joliet volume down.
    fn read(image: &[u8], path: &str) -> Option<Vec<u8>> {
        let le32 = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        let root = 17 * SECTOR + 156;
        let mut extent = (le32(root + 2) * SECTOR, le32(root + 10));
        for name in path.split('/') {
            let wanted = utf16(name);
            let (mut at, end) = (extent.0, extent.0 + extent.1);
            extent = loop {
                if at >= end {
                    return None;
                }
                match image[at] as usize {
                    0 => at = at.next_multiple_of(SECTOR),
                    _ if image[at + 33..at + 33 + image[at + 32] as usize] == wanted => {
                        break (le32(at + 2) * SECTOR, le32(at + 10));
                    }
                    length => at += length,
                }
            };
        }
        Some(image[extent.0..extent.0 + extent.1].to_vec())
    }

    #[test]
    fn every_file_is_found_by_its_path() {
        let mut files: Vec<ConfigFile> =
            (0..200).map(|i| file(&format!("openstack/content/{i:04}-{}", "x".repeat(40)), &[i as u8; 3000])).collect();
        files.push(file("openstack/latest/meta_data.json", b"{}"));
        files.push(file("openstack/latest/user_data", b""));
        files.push(file("ec2/latest/meta-data.json", b"ec2"));
        let image = image("config-2", &files).unwrap();
        for file in &files {
            assert_eq!(read(&image, &file.path).as_ref(), Some(&file.content), "{}", file.path);
        }
        assert_eq!(read(&image, "openstack/nothing"), None);
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 49], b"config-2 ");
    }

    #[test]
    fn plain_names_differ() {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = ["vendor_data.json", "vendor_data2.json", "vendor_data3.json", "user_data"]
            .iter()
            .map(|name| plain_name(name, true, &mut taken))
            .collect();
        assert_eq!(names, ["VENDOR_D.JSO;1", "VEND0001.JSO;1", "VEND0002.JSO;1", "USER_DAT.;1"]);
        assert_eq!(plain_name("2018-08-27", false, &mut taken), "2018_08_");
    }

    #[test]
    fn what_is_refused() {
        for (paths, reason) in [
            (vec!["/etc/passwd"], "can't be a path"),
            (vec!["a/../b"], "can't be a path"),
            (vec!["a;1"], "can't be a path"),
            (vec!["a", "a"], "twice"),
            (vec!["a", "a/b"], "twice"),
            (vec!["a/b", "a"], "twice"),
        ] {
            let files: Vec<ConfigFile> = paths.iter().map(|path| file(path, b"")).collect();
            let error = image("config-2", &files).unwrap_err();
            assert!(error.contains(reason), "{paths:?}: {error}");
        }
    }
}
