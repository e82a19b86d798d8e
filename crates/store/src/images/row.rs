//! An image as its tables hold it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{
    Timestamp,
    id::{ImageId, ProjectId},
};
use sqlx::AssertSqlSafe;

use crate::{Conn, Error, Result, Row, RowExt, query};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $about:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $about] $variant,)*
        }

        impl $name {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in rows and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// From the word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }

            #[allow(dead_code, reason = "not every table has each of them")]
            pub(crate) fn of(row: &impl RowExt, column: &str) -> Result<Self> {
                let text = row.text(column)?;
                Self::parse(&text).ok_or(Error::Column { column: column.to_owned(), reason: text })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an image is in its life.
    Status {
        Queued = "queued": "It waits for data.",
        Saving = "saving": "Data is arriving.",
        Uploading = "uploading": "Data is arriving in the staging area, or waits there for its import.",
        Importing = "importing": "Data is being imported.",
        Active = "active": "It can be used.",
        Deactivated = "deactivated": "Its data is withheld from everyone but administrators.",
        Deleted = "deleted": "It is to be removed; nobody sees it any more.",
    }
}

words! {
    /// Who sees an image.
    Visibility {
        Public = "public": "Everyone, in every list.",
        Community = "community": "Everyone who asks for it.",
        Shared = "shared": "The owner and the image's members.",
        Private = "private": "The owner.",
    }
}

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// The project that owns it.
    pub owner: ProjectId,
    /// Its name.
    pub name: Option<String>,
    /// Where it is in its life.
    pub status: Status,
    /// Who sees it.
    pub visibility: Visibility,
    /// The format of its data: `qcow2`, `raw`...
    pub disk_format: Option<String>,
    /// What the data is wrapped in: `bare` for nothing.
    pub container_format: Option<String>,
    /// GiB of disk that a guest needs.
    pub min_disk: i64,
    /// MiB of memory that a guest needs.
    pub min_ram: i64,
    /// It can't be deleted.
    pub protected: bool,
    /// Lists don't show it unless asked to.
    pub hidden: bool,
    /// Bytes of the file.
    pub size: Option<i64>,
    /// Bytes of the disk that a guest sees.
    pub virtual_size: Option<i64>,
    /// MD5, hex.
    pub checksum: Option<String>,
    /// Which hash `hash_value` is.
    pub hash_algo: Option<String>,
    /// That hash, hex.
    pub hash_value: Option<String>,
    /// SHA-256, hex.
    pub sha256: Option<String>,
    /// The file, relative to the image directory; none until there is data.
    pub file: Option<String>,
    /// Counts uploads.
    pub generation: i64,
    /// When the upload under way was last heard of.
    pub upload_seen: Option<Timestamp>,
    /// How its import went: `running`, `done`, `failed`; none where nothing was ever imported.
    pub import_state: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Additional properties.
    pub properties: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeSet<String>,
}

impl Image {
    /// An image without data.
    pub fn new(id: ImageId, owner: ProjectId, now: Timestamp) -> Self {
        Self {
            id,
            owner,
            name: None,
            status: Status::Queued,
            visibility: Visibility::Shared,
            disk_format: None,
            container_format: None,
            min_disk: 0,
            min_ram: 0,
            protected: false,
            hidden: false,
            size: None,
            virtual_size: None,
            checksum: None,
            hash_algo: None,
            hash_value: None,
            sha256: None,
            file: None,
            generation: 0,
            upload_seen: None,
            import_state: None,
            created_at: now,
            updated_at: now,
            properties: BTreeMap::new(),
            tags: BTreeSet::new(),
        }
    }

    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            owner: row.id("owner")?,
            name: row.opt_text("name")?,
            status: status(row)?,
            visibility: Visibility::of(row, "visibility")?,
            disk_format: row.opt_text("disk_format")?,
            container_format: row.opt_text("container_format")?,
            min_disk: row.int("min_disk")?,
            min_ram: row.int("min_ram")?,
            protected: row.flag("protected")?,
            hidden: row.flag("hidden")?,
            size: row.opt_int("size")?,
            virtual_size: row.opt_int("virtual_size")?,
            checksum: row.opt_text("checksum")?,
            hash_algo: row.opt_text("hash_algo")?,
            hash_value: row.opt_text("hash_value")?,
            sha256: row.opt_text("sha256")?,
            file: row.opt_text("file")?,
            generation: row.int("generation")?,
            upload_seen: row.opt_time("upload_seen")?,
            import_state: row.opt_text("import_state")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            properties: BTreeMap::new(),
            tags: BTreeSet::new(),
        })
    }
}

pub(super) fn status(row: &Row) -> Result<Status> {
    Status::of(row, "status")
}

/// Adds properties and tags to images, with two statements for all of them.
pub(super) async fn with_details(conn: &mut Conn, mut images: Vec<Image>) -> Result<Vec<Image>> {
    if images.is_empty() {
        return Ok(images);
    }
    let at: HashMap<String, usize> =
        images.iter().enumerate().map(|(at, image)| (image.id.as_str().to_owned(), at)).collect();
    for row in details(conn, "select image_id, name, value from image_properties", &images).await? {
        if let Some(image) = at.get(&row.text("image_id")?).and_then(|at| images.get_mut(*at)) {
            image.properties.insert(row.text("name")?, row.text("value")?);
        }
    }
    for row in details(conn, "select image_id, tag from image_tags", &images).await? {
        if let Some(image) = at.get(&row.text("image_id")?).and_then(|at| images.get_mut(*at)) {
            image.tags.insert(row.text("tag")?);
        }
    }
    Ok(images)
}

async fn details(conn: &mut Conn, select: &'static str, images: &[Image]) -> Result<Vec<Row>> {
    let places: Vec<String> = (1..=images.len()).map(|n| format!("${n}")).collect();
    let mut query = query(AssertSqlSafe(format!("{select} where image_id in ({})", places.join(", "))));
    for image in images {
        query = query.bind(image.id.as_str());
    }
    Ok(query.fetch_all(conn).await?)
}
