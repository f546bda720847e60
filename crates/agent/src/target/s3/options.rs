//! The options of an S3 target, resolved. What there is, of which kind and with which default, is in
//! [`lockstep_core::options`]; credentials are deliberately none of them (`credentials.rs`).

use crate::target::backend::options;
use lockstep_core::plan::TargetPlan;
use lockstep_core::problem::Problem;
use std::time::Duration;

/// Most parts that S3 accepts in one upload.
pub const MAX_PARTS: u64 = 10_000;

/// How buckets are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `endpoint/bucket/key`.
    Path,
    /// `bucket.endpoint/key`.
    Virtual,
}

/// The options, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Region that requests are signed for.
    pub region: String,
    /// How buckets are addressed.
    pub addressing: Addressing,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Whether requests go out unsigned.
    pub anonymous: bool,
    /// Size of parts, and above which an object is put in parts; bytes.
    pub part_bytes: u64,
    /// Whether the content is signed.
    pub sign_payload: bool,
}

impl Options {
    /// Reads `target.options`.
    ///
    /// # Errors
    /// An unknown option, or a value that is not of its kind.
    pub fn read(plan: &TargetPlan) -> Result<Self, Problem> {
        let given = options(plan)?;
        Ok(Self {
            region: given.text("region").to_owned(),
            addressing: match given.text("addressing") {
                "virtual" => Addressing::Virtual,
                _ => Addressing::Path,
            },
            timeout: given.duration("timeout"),
            connect_timeout: given.duration("connectTimeout"),
            anonymous: given.flag("anonymous"),
            part_bytes: given.size("partSize"),
            sign_payload: given.flag("signPayload"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::plan::{EndpointSelection, PageCache, Scheme};
    use lockstep_core::problem::exit;

    fn read(options: &[(&str, &str)]) -> Result<Options, Problem> {
        Options::read(&TargetPlan {
            scheme: Scheme::S3,
            uri: "s3://b/p".into(),
            bucket: "b".into(),
            path: "p".into(),
            endpoints: Vec::new(),
            endpoint_selection: EndpointSelection::RoundRobin,
            options: options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            page_cache: PageCache::Keep,
        })
    }

    #[test]
    fn every_option_arrives_in_its_field() {
        let defaults = Options {
            region: "us-east-1".into(),
            addressing: Addressing::Path,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            anonymous: false,
            part_bytes: 16 << 20,
            sign_payload: false,
        };
        assert_eq!(read(&[]).unwrap(), defaults);
        let other = Options {
            region: "eu".into(),
            addressing: Addressing::Virtual,
            timeout: Duration::from_secs(61),
            connect_timeout: Duration::from_millis(1),
            anonymous: true,
            part_bytes: 5 << 20,
            sign_payload: true,
        };
        let given = [
            ("region", "eu"),
            ("addressing", "virtual"),
            ("timeout", "1m1s"),
            ("connectTimeout", "1ms"),
            ("anonymous", "true"),
            ("partSize", "5MiB"),
            ("signPayload", "true"),
        ];
        assert_eq!(read(&given).unwrap(), other);
        assert_eq!(read(&[("regoin", "x")]).unwrap_err().exit, exit::REFUSED);
    }
}
