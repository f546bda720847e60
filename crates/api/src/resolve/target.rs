//! `spec.target` into [`TargetPlan`]: the URI taken apart, secrets refused.

use super::Findings;
use crate::fault::Fault;
use crate::manifest::path;
use crate::manifest::suggest;
use crate::spec::target::TargetSpec;
use crate::spec::words::PageCache;
use lockstep_core::options;
use lockstep_core::plan::{Scheme, TargetPlan};

/// Parts of keys that name a secret in every dialect.
const SECRETIVE: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "token",
    "credential",
    "accesskey",
    "access_key",
    "signature",
    "private",
];

/// Resolves the target; `None` when there is a fault that leaves nothing to go on with.
pub(super) fn resolve(spec: &TargetSpec, findings: &mut Findings) -> Option<TargetPlan> {
    let at = "spec.target.uri";
    let Some((scheme, rest)) = spec.uri.split_once("://") else {
        findings.fault(
            Fault::new(at, "is no URI").allowed("s3://bucket/prefix, file:///absolute/path, mem://, null://"),
        );
        return None;
    };
    secrets_in_uri(&spec.uri, at, findings);
    let location = match scheme {
        "file" => file(rest, findings).map(|path| (Scheme::File, String::new(), path)),
        "s3" => s3(rest, findings).map(|(bucket, prefix)| (Scheme::S3, bucket, prefix)),
        "mem" => Some((Scheme::Mem, String::new(), rest.trim_matches('/').to_owned())),
        "null" => Some((Scheme::Null, String::new(), String::new())),
        "gs" | "az" | "direct" => {
            let fault = Fault::new(at, format!("{scheme}:// is not supported by this version"));
            findings.fault(fault.allowed("s3, file, mem, null"));
            None
        }
        other => {
            let fault = Fault::new(at, format!("there is no scheme {other}://"));
            findings.fault(fault.allowed("s3, file, mem, null"));
            None
        }
    };
    let (scheme, bucket, path) = location?;
    options(spec, scheme, findings);
    fitting(spec, scheme, findings);
    Some(TargetPlan {
        scheme,
        uri: spec.uri.clone(),
        bucket,
        path,
        endpoints: spec.endpoints.iter().map(|endpoint| endpoint.trim_end_matches('/').to_owned()).collect(),
        endpoint_selection: spec.endpoint_selection.into(),
        options: spec.options.clone(),
        page_cache: spec.page_cache.into(),
    })
}

fn file(rest: &str, findings: &mut Findings) -> Option<String> {
    let at = "spec.target.uri";
    let allowed = "file:///absolute/path";
    if !rest.starts_with('/') {
        let hint = "two slashes and the path's own: three in all";
        findings.fault(Fault::new(at, "is not an absolute path").allowed(allowed).hint(hint));
        return None;
    }
    // A path that means another one would be checked as one place and written as another.
    if rest.split('/').any(|part| part == ".." || part == ".") {
        findings.fault(Fault::new(at, "has . or .. in its path").allowed(allowed));
        return None;
    }
    let path = format!("/{}", rest.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"));
    if path == "/" {
        let hint = "a run writes, and its cleanup deletes: give it a directory of its own";
        findings.fault(Fault::new(at, "is the root of the file system").allowed(allowed).hint(hint));
        return None;
    }
    Some(path)
}

fn s3(rest: &str, findings: &mut Findings) -> Option<(String, String)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !is_bucket {
        let message = format!("`{}` is no name of a bucket", bucket.escape_debug());
        findings.fault(
            Fault::new("spec.target.uri", message)
                .allowed("s3://bucket/prefix, the bucket 3 to 63 characters"),
        );
        return None;
    }
    let prefix = prefix.trim_matches('/');
    if prefix.split('/').any(|part| part == ".." || part == ".") || prefix.contains("//") {
        findings.fault(Fault::new("spec.target.uri", "has an empty, . or .. part in its prefix"));
        return None;
    }
    Some((bucket.to_owned(), prefix.to_owned()))
}

/// What only some schemes know.
fn fitting(spec: &TargetSpec, scheme: Scheme, findings: &mut Findings) {
    let name = match scheme {
        Scheme::File => "file",
        Scheme::Mem => "mem",
        Scheme::Null => "null",
        Scheme::S3 => "s3",
    };
    let mut refuse = |is_set: bool, field: &str, only: &str| {
        if is_set {
            let message = format!("has no meaning with {name}://");
            findings.fault(
                Fault::new(format!("spec.target.{field}"), message).allowed(format!("with {only} only")),
            );
        }
    };
    refuse(!spec.endpoints.is_empty() && scheme != Scheme::S3, "endpoints", "s3://");
    let no_options = options::of(scheme).next().is_none();
    refuse(!spec.options.is_empty() && no_options, "options", "s3://, mem:// or null://");
    refuse(spec.credentials.is_some() && scheme != Scheme::S3, "credentials", "s3://");
    refuse(spec.volume.is_some() && scheme != Scheme::File, "volume", "file://");
    refuse(spec.page_cache == PageCache::Drop && scheme != Scheme::File, "pageCache", "file://");
    if let Some(volume) = &spec.volume {
        let members = [
            volume.persistent_volume_claim.is_some(),
            volume.ephemeral.is_some(),
            volume.empty_dir.is_some(),
        ];
        super::exactly_one(
            "spec.target.volume",
            &["persistentVolumeClaim", "ephemeral", "emptyDir"],
            &members,
            findings,
        );
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let at = path::item("spec.target.endpoints", index);
        secrets_in_uri(endpoint, &at, findings);
        let plain = endpoint.trim_end_matches('/');
        if seen.contains(&plain) {
            findings.fault(Fault::new(&at, "is in the list twice"));
        }
        seen.push(plain);
        let host = plain.split_once("://").map(|(scheme, host)| (matches!(scheme, "http" | "https"), host));
        if !host.is_some_and(|(is_http, host)| is_http && !host.is_empty() && !host.contains(['/', '?', '#']))
        {
            findings
                .fault(Fault::new(&at, "is no endpoint").allowed("http://host:port or https://host:port"));
        }
    }
}

fn options(spec: &TargetSpec, scheme: Scheme, findings: &mut Findings) {
    for (name, value) in &spec.options {
        let at = path::member("spec.target.options", name);
        let lower = name.to_lowercase();
        if SECRETIVE.iter().any(|word| lower.contains(word)) {
            findings.fault(
                Fault::new(&at, "looks like a secret, and everybody who may read the run could read it")
                    .hint("put it into a Secret and name that in spec.target.credentials.secretName"),
            );
        } else if let Some(option) = options::of(scheme).find(|option| option.name == name) {
            if let Some(allowed) = option.kind.misfit(value) {
                let message = format!("`{}` does not fit", value.escape_debug());
                findings.fault(Fault::new(&at, message).allowed(allowed));
            }
        } else {
            let names: Vec<&str> = options::of(scheme).map(|option| option.name).collect();
            let fault = Fault::new(&at, "there is no such option for this target");
            findings.fault(match suggest::closest(name, names.iter().copied()) {
                Some(close) => fault.hint(format!("did you mean {close}?")),
                None if names.is_empty() => fault.allowed("none"),
                None => fault.allowed(names.join(", ")),
            });
        }
    }
}

/// Refuses credentials in a URI: before an `@`, or in a signed query. The URI is shown in status, logs and reports.
pub(super) fn secrets_in_uri(uri: &str, at: &str, findings: &mut Findings) {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    // A file's path may hold any character.
    if uri.starts_with("file://") {
        return;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        findings.fault(
            Fault::new(at, "has credentials in it, and everybody who may read the run could read them")
                .hint("put them into a Secret and name that in spec.target.credentials.secretName"),
        );
    }
    if rest.contains(['?', '#']) {
        findings.fault(
            Fault::new(at, "has a query or a fragment, which may hold a signature")
                .hint("put credentials into a Secret, and options into spec.target.options"),
        );
    }
}
