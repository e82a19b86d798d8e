//! Which images a list shows, and to whom.

use model::id::ProjectId;

use super::{
    members::MemberStatus,
    row::{self, Image, Visibility},
};
use crate::{
    Conn, Result,
    list::{Page, Select, SortKey, Type, Value},
};

/// The keys that lists may be sorted by; the first is the default.
pub const SORTS: &[SortKey] = &[
    sort("created_at", "i.created_at", Type::Int),
    sort("updated_at", "i.updated_at", Type::Int),
    sort("id", "i.id", Type::Text),
    sort("name", "coalesce(i.name, '')", Type::Text),
    sort("status", "i.status", Type::Text),
    sort("size", "coalesce(i.size, 0)", Type::Int),
    sort("disk_format", "coalesce(i.disk_format, '')", Type::Text),
    sort("container_format", "coalesce(i.container_format, '')", Type::Text),
];

const fn sort(name: &'static str, sql: &'static str, kind: Type) -> SortKey {
    SortKey { name, sql, kind }
}

/// Who looks.
#[derive(Clone, Debug)]
pub enum Viewer {
    /// Sees every image. The project, where there is one, decides which community images are its own.
    Admin(Option<ProjectId>),
    /// Sees its own, public and community ones, and those shared with it.
    Project(ProjectId),
}

/// Which visibilities to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All but other projects' community images, of which there may be very many.
    Default,
    /// All.
    All,
    /// Only these.
    Only(Visibility),
}

/// Columns that filters compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Column {
    Id,
    Name,
    Status,
    Owner,
    DiskFormat,
    ContainerFormat,
    MinDisk,
    MinRam,
    Size,
    Protected,
    Checksum,
    HashAlgo,
    HashValue,
    CreatedAt,
    UpdatedAt,
}

impl Column {
    const fn sql(self) -> &'static str {
        match self {
            Self::Id => "i.id",
            Self::Name => "i.name",
            Self::Status => "i.status",
            Self::Owner => "i.owner",
            Self::DiskFormat => "i.disk_format",
            Self::ContainerFormat => "i.container_format",
            Self::MinDisk => "i.min_disk",
            Self::MinRam => "i.min_ram",
            Self::Size => "i.size",
            Self::Protected => "i.protected",
            Self::Checksum => "i.checksum",
            Self::HashAlgo => "i.hash_algo",
            Self::HashValue => "i.hash_value",
            Self::CreatedAt => "i.created_at",
            Self::UpdatedAt => "i.updated_at",
        }
    }
}

/// How a number or a moment compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

/// One condition of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// One of these values.
    AnyOf(Column, Vec<Value>),
    /// `created_at`, `updated_at` or `size` against a number. Moments compare by the second, as clients see them.
    Compare(Column, Comparison, i64),
    /// Has this tag.
    Tag(String),
    /// Has this additional property with this value.
    Property(String, String),
}

/// What a list shows.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Who looks.
    pub viewer: Viewer,
    /// Which visibilities.
    pub shown: Shown,
    /// What the viewer must have said to an image that is shared with it; none for whatever it said.
    pub member_status: Option<MemberStatus>,
    /// Hidden images instead of those that are not.
    pub hidden: bool,
    /// What else must hold.
    pub conditions: Vec<Condition>,
}

/// A page of images.
pub async fn list(conn: &mut Conn, filter: &Filter, page: &Page) -> Result<Vec<Image>> {
    let mut select = Select::new("select i.* from images i", "images i", "i.id");
    select.filter("i.status <> 'deleted'", []);
    select.equal("i.hidden", i64::from(filter.hidden));
    visible(&mut select, filter);
    for condition in &filter.conditions {
        apply(&mut select, condition);
    }
    let rows = select.page(conn, page).await?;
    let images = rows.iter().map(Image::from_row).collect::<Result<_>>()?;
    row::with_details(conn, images).await
}

fn visible(select: &mut Select, filter: &Filter) {
    if let Viewer::Project(project) = &filter.viewer {
        let me = || Value::from(project);
        match filter.member_status {
            Some(status) => select.filter(
                "(i.owner = ? or i.visibility in ('public', 'community') or (i.visibility = 'shared' and i.id in \
                 (select m.image_id from image_members m where m.member = ? and m.status = ?)))",
                [me(), me(), status.as_str().into()],
            ),
            None => select.filter(
                "(i.owner = ? or i.visibility in ('public', 'community') or (i.visibility = 'shared' and i.id in \
                 (select m.image_id from image_members m where m.member = ?)))",
                [me(), me()],
            ),
        };
    }
    match (filter.shown, &filter.viewer) {
        (Shown::All, _) => {}
        (Shown::Only(visibility), _) => {
            select.equal("i.visibility", visibility.as_str());
        }
        (Shown::Default, Viewer::Admin(Some(project)) | Viewer::Project(project)) => {
            select.filter("(i.visibility <> 'community' or i.owner = ?)", [project.into()]);
        }
        (Shown::Default, Viewer::Admin(None)) => {
            select.filter("i.visibility <> 'community'", []);
        }
    }
}

fn apply(select: &mut Select, condition: &Condition) {
    match condition {
        Condition::AnyOf(column, values) => {
            select.any_of(column.sql(), values.iter().cloned());
        }
        Condition::Compare(column, how, number) => {
            compare(select, *column, *how, *number);
        }
        Condition::Tag(tag) => {
            select.filter("i.id in (select t.image_id from image_tags t where t.tag = ?)", [tag.as_str().into()]);
        }
        Condition::Property(name, value) => {
            select.filter(
                "i.id in (select p.image_id from image_properties p where p.name = ? and p.value = ?)",
                [name.as_str().into(), value.as_str().into()],
            );
        }
    }
}

fn compare(select: &mut Select, column: Column, how: Comparison, number: i64) {
    // Clients see seconds and send them back: cut the microseconds off on our side too.
    let (less, less_equal, equal, not_equal, greater_equal, greater) = match column {
        Column::CreatedAt => (
            "i.created_at / 1000000 < ?",
            "i.created_at / 1000000 <= ?",
            "i.created_at / 1000000 = ?",
            "i.created_at / 1000000 <> ?",
            "i.created_at / 1000000 >= ?",
            "i.created_at / 1000000 > ?",
        ),
        Column::UpdatedAt => (
            "i.updated_at / 1000000 < ?",
            "i.updated_at / 1000000 <= ?",
            "i.updated_at / 1000000 = ?",
            "i.updated_at / 1000000 <> ?",
            "i.updated_at / 1000000 >= ?",
            "i.updated_at / 1000000 > ?",
        ),
        // What has no data has no size, and is neither larger nor smaller than anything.
        _ => ("i.size < ?", "i.size <= ?", "i.size = ?", "i.size <> ?", "i.size >= ?", "i.size > ?"),
    };
    let condition = match how {
        Comparison::Less => less,
        Comparison::LessOrEqual => less_equal,
        Comparison::Equal => equal,
        Comparison::NotEqual => not_equal,
        Comparison::GreaterOrEqual => greater_equal,
        Comparison::Greater => greater,
    };
    select.filter(condition, [number.into()]);
}
