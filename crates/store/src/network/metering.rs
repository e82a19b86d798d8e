//! Tables `metering_labels` and `metering_label_rules`: names for traffic that is to be counted apart.

use model::id::ProjectId;

use super::plain::{Column, Plain, Standard};
use crate::{Result, Row, RowExt, list::Select};

/// A name for traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// What all such tables have.
    pub standard: Standard,
    /// Whether it counts every project's traffic.
    pub shared: bool,
}

impl Plain for Label {
    const TABLE: &'static str = "metering_labels";
    const SELECT: &'static str = "select r.* from metering_labels r";
    const FROM: &'static str = "metering_labels r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self { standard, shared: row.flag("shared")? })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![("shared", self.shared.into())]
    }

    fn visible(select: &mut Select, project: &ProjectId) {
        select.filter("(r.project_id = ? or r.shared = 1)", [project.into()]);
    }
}

/// Which traffic a label is about.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRule {
    /// What all such tables have.
    pub standard: Standard,
    /// The label.
    pub metering_label_id: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// Whether it takes traffic out instead.
    pub excluded: bool,
    /// The other end.
    pub remote_ip_prefix: Option<String>,
    /// Where traffic comes from.
    pub source_ip_prefix: Option<String>,
    /// Where traffic goes to.
    pub destination_ip_prefix: Option<String>,
}

impl Plain for LabelRule {
    const TABLE: &'static str = "metering_label_rules";
    const SELECT: &'static str = "select r.* from metering_label_rules r";
    const FROM: &'static str = "metering_label_rules r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self {
            standard,
            metering_label_id: row.text("metering_label_id")?,
            direction: row.text("direction")?,
            excluded: row.flag("excluded")?,
            remote_ip_prefix: row.opt_text("remote_ip_prefix")?,
            source_ip_prefix: row.opt_text("source_ip_prefix")?,
            destination_ip_prefix: row.opt_text("destination_ip_prefix")?,
        })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![
            ("metering_label_id", self.metering_label_id.as_str().into()),
            ("direction", self.direction.as_str().into()),
            ("excluded", self.excluded.into()),
            ("remote_ip_prefix", Column::Text(self.remote_ip_prefix.clone())),
            ("source_ip_prefix", Column::Text(self.source_ip_prefix.clone())),
            ("destination_ip_prefix", Column::Text(self.destination_ip_prefix.clone())),
        ]
    }
}
