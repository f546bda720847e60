//! What a container's process is told: environment, command and arguments, as a kubelet makes them
//! (`makeEnvironmentVariables` in pkg/kubelet/kubelet_pods.go).

use super::context::PodContext;
use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, ResourceFieldSelector, Secret};
use kube::api::Api;
use std::collections::BTreeMap;

/// What container runtimes give where an image says nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a container without a limit is told to have: what the node has to give.
pub(super) const NODE_CPU: &str = "1000";
/// As [`NODE_CPU`], bytes.
pub(super) const NODE_MEMORY: &str = "1Ti";

/// The environment of a container. An error is one of the pod's configuration: `CreateContainerConfigError`.
pub(super) async fn environment(ctx: &PodContext, container: &Container) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), ctx.hostname().to_owned()),
        // In place of a Service address that kube-proxy would translate.
        ("KUBERNETES_SERVICE_HOST".to_owned(), ctx.node.api_server.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), ctx.node.api_server.port().to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), ctx.node.api_server.port().to_string()),
    ]);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let mut values = Vec::new();
        if let Some(reference) = &source.config_map_ref
            && let Some(map) = config_map(ctx, &reference.name, reference.optional).await?
        {
            values.extend(map.data.unwrap_or_default());
        }
        if let Some(reference) = &source.secret_ref
            && let Some(secret) = secret(ctx, &reference.name, reference.optional).await?
        {
            values
                .extend(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(&value))));
        }
        environment.extend(values.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => value_from(ctx, container, source).await?,
            (Some(value), None) => Some(expand(value, &environment)),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            environment.insert(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

/// Command and arguments, `entrypoint` being the image's.
pub(super) fn command(
    container: &Container,
    entrypoint: &[String],
    environment: &BTreeMap<String, String>,
) -> Vec<String> {
    let command = container.command.as_deref().filter(|command| !command.is_empty());
    let words = command.unwrap_or(entrypoint).iter().chain(container.args.iter().flatten());
    words.map(|word| expand(word, environment)).collect()
}

async fn value_from(
    ctx: &PodContext,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>> {
    if let Some(reference) = &source.field_ref {
        let value =
            field(&ctx.pod, &reference.field_path, &ctx.address.to_string(), &ctx.node.address.to_string());
        return value.map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(container, reference).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let map = config_map(ctx, &reference.name, reference.optional).await?;
        let value = map.and_then(|map| map.data?.remove(&reference.key));
        return needed(value, reference.optional, ctx, &reference.key, "ConfigMap", &reference.name);
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = secret(ctx, &reference.name, reference.optional).await?;
        let value = secret.and_then(|secret| secret.data?.remove(&reference.key)).map(|value| text(&value));
        return needed(value, reference.optional, ctx, &reference.key, "Secret", &reference.name);
    }
    bail!("the test node does not know this source of a variable: {source:?}")
}

fn needed(
    value: Option<String>,
    optional: Option<bool>,
    ctx: &PodContext,
    key: &str,
    kind: &str,
    name: &str,
) -> Result<Option<String>> {
    if value.is_none() && optional != Some(true) {
        bail!("couldn't find key {key} in {kind} {}/{name}", ctx.namespace());
    }
    Ok(value)
}

/// A ConfigMap of the pod's namespace, which may be missing only where the pod says so.
pub(super) async fn config_map(
    ctx: &PodContext,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<ConfigMap>> {
    let found = Api::<ConfigMap>::namespaced(ctx.node.client().await, ctx.namespace()).get_opt(name).await?;
    if found.is_none() && optional != Some(true) {
        bail!("configmap \"{name}\" not found");
    }
    Ok(found)
}

/// A Secret of the pod's namespace, as [`config_map`].
pub(super) async fn secret(ctx: &PodContext, name: &str, optional: Option<bool>) -> Result<Option<Secret>> {
    let found = Api::<Secret>::namespaced(ctx.node.client().await, ctx.namespace()).get_opt(name).await?;
    if found.is_none() && optional != Some(true) {
        bail!("secret \"{name}\" not found");
    }
    Ok(found)
}

fn text(value: &ByteString) -> String {
    String::from_utf8_lossy(&value.0).into_owned()
}

/// A field of the pod, as the downward API gives it (pkg/fieldpath/fieldpath.go).
pub(super) fn field(pod: &Pod, path: &str, pod_ip: &str, host_ip: &str) -> Result<String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => bail!("unsupported fieldPath: {path}"),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let lines = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<String> =
            map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.podIP" | "status.podIPs" => pod_ip.to_owned(),
        "status.hostIP" | "status.hostIPs" => host_ip.to_owned(),
        _ => bail!("unsupported fieldPath: {path}"),
    })
}

/// A limit or request of a container in units of the divisor, rounded up (pkg/api/v1/resource/helpers.go).
pub(super) fn resource(container: &Container, reference: &ResourceFieldSelector) -> Result<String> {
    let (kind, name) = reference.resource.split_once('.').context("unsupported resource")?;
    let resources = container.resources.as_ref();
    let own = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => bail!("unsupported resource: {}", reference.resource),
    };
    let own = own.and_then(|own| own.get(name)).map(|quantity| quantity.0.as_str());
    let default = match (kind, name) {
        ("limits", "cpu") => NODE_CPU,
        ("limits", "memory") => NODE_MEMORY,
        _ => "0",
    };
    let divisor = reference.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let divisor = if divisor == "0" { "1" } else { divisor };
    Ok(thousandths(own.unwrap_or(default))?.div_ceil(thousandths(divisor)?).to_string())
}

/// A quantity in thousandths, so that `250m` is whole.
fn thousandths(quantity: &str) -> Result<u128> {
    const SUFFIXES: [(&str, u128); 12] = [
        ("Ki", 1000 << 10),
        ("Mi", 1000 << 20),
        ("Gi", 1000 << 30),
        ("Ti", 1000 << 40),
        ("Pi", 1000 << 50),
        ("k", 1_000_000),
        ("M", 1_000_000_000),
        ("G", 1_000_000_000_000),
        ("T", 1_000_000_000_000_000),
        ("P", 1_000_000_000_000_000_000),
        ("m", 1),
        ("", 1000),
    ];
    let split = SUFFIXES.iter().find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, factor)));
    let (number, factor) = split.context("every quantity has an empty suffix")?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_u128.pow(u32::try_from(part.len())?);
    let digits: u128 =
        format!("{whole}{part}").parse().with_context(|| format!("{quantity} is no quantity"))?;
    Ok((digits * factor).div_ceil(scale))
}

/// Replaces `$(NAME)` by the variable's value where there is one, and `$$` by `$`
/// (k8s.io/kubernetes/third_party/forked/golang/expansion).
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match environment.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_a_kubelet_does() {
        let environment = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        for (text, expected) in [
            ("$(A)", "x"),
            ("--a=$(A),$(A)", "--a=x,x"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, &environment), expected, "{text}");
        }
    }

    #[test]
    fn quantities_are_read_and_divided_upwards() {
        for (quantity, expected) in
            [("250m", 250), ("2", 2000), ("1.5", 1500), ("1Ki", 1_024_000), ("0.5Gi", 512 << 20)]
        {
            let expected = if quantity == "0.5Gi" { expected * 1000 } else { expected };
            assert_eq!(thousandths(quantity).unwrap(), expected, "{quantity}");
        }
        assert!(thousandths("many").is_err());
        let reference =
            ResourceFieldSelector { resource: "limits.cpu".to_owned(), ..ResourceFieldSelector::default() };
        assert_eq!(resource(&Container::default(), &reference).unwrap(), "1000");
    }
}
