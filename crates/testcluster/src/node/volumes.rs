//! Volumes of a pod: made before its containers, kept current while it lives.
//!
//! Known are emptyDir (on disk whatever its medium, without a limit), configMap, secret, downwardAPI, projected (with ServiceAccount tokens), hostPath, and a claim that
//! is bound to a hostPath volume. Anything else is an error, as what is missing is: a `FailedMount`, again and again.

use super::atomic::{AtomicDirectory, Content, Owner, Payload};
use super::context::PodContext;
use super::environment::{config_map, field, resource, secret};
use super::token::Tokens;
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, PersistentVolume, PersistentVolumeClaim, Volume,
    VolumeProjection,
};
use kube::api::Api;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often tokens are looked at between the refreshes of the rest: they must not expire meanwhile.
const TOKEN_LOOK: Duration = Duration::from_secs(1);
/// Mode of files whose volume says none.
const DEFAULT_MODE: i32 = 0o644;

/// The volumes of a pod by name.
pub(super) struct Volumes {
    mounted: BTreeMap<String, Mounted>,
    tokens: Tokens,
}

enum Mounted {
    /// A directory that the pod alone writes.
    Plain(PathBuf),
    /// Files that follow objects of the API.
    Followed(Box<Volume>, AtomicDirectory),
}

impl Volumes {
    /// Makes them all. An error names the volume, in a kubelet's words.
    pub(super) async fn mount(ctx: &PodContext) -> Result<Self> {
        let mut volumes = Self { mounted: BTreeMap::new(), tokens: Tokens::default() };
        let spec = ctx.pod.spec.as_ref();
        for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
            let mounted = volumes.make(ctx, volume).await;
            let mounted = mounted.map_err(|error| {
                anyhow::anyhow!("MountVolume.SetUp failed for volume \"{}\" : {error:#}", volume.name)
            })?;
            volumes.mounted.insert(volume.name.clone(), mounted);
        }
        Ok(volumes)
    }

    /// Where a volume is on this machine.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(match self.mounted.get(name)? {
            Mounted::Plain(path) => path.clone(),
            Mounted::Followed(_, directory) => directory.path().to_owned(),
        })
    }

    /// Keeps files current for ever: tokens before they expire, the rest as late as ordered.
    pub(super) async fn follow(mut self, ctx: &PodContext) {
        let mut every = ctx.node.refresh_every.subscribe();
        let mut last = tokio::time::Instant::now();
        loop {
            let period = *every.borrow_and_update();
            tokio::time::sleep(TOKEN_LOOK.min(period)).await;
            let (is_due, has_token) = (last.elapsed() >= period, self.tokens.is_due());
            if !is_due && !has_token {
                continue;
            }
            if is_due {
                last = tokio::time::Instant::now();
            }
            let Self { mounted, tokens } = &mut self;
            for volume in mounted.values_mut() {
                let Mounted::Followed(volume, directory) = volume else { continue };
                if !is_due && volume.projected.is_none() {
                    continue;
                }
                // What cannot be read now keeps its files, as with a kubelet.
                if let Ok(payload) = payload(ctx, volume, tokens).await
                    && let Err(error) = directory.write(payload)
                {
                    ctx.event(super::events::WARNING, "FailedMount", &format!("{}: {error:#}", volume.name));
                }
            }
        }
    }

    async fn make(&mut self, ctx: &PodContext, volume: &Volume) -> Result<Mounted> {
        if let Some(host) = &volume.host_path {
            return Ok(Mounted::Plain(PathBuf::from(&host.path)));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return claimed(ctx, &claim.claim_name).await.map(Mounted::Plain);
        }
        let path = ctx.directory.join("volumes").join(&volume.name);
        std::fs::create_dir_all(&path)?;
        if volume.empty_dir.is_some() {
            // For whatever user the containers run as (pkg/volume/emptydir/empty_dir.go).
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
            return Ok(Mounted::Plain(path));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        let payload = payload(ctx, volume, &mut self.tokens).await?;
        let mut directory = AtomicDirectory::new(path, owner(ctx, volume));
        directory.write(payload)?;
        Ok(Mounted::Followed(Box::new(volume.clone()), directory))
    }
}

/// The user that all containers agree on owns projected volumes (`FsUser` in pkg/volume/util/operationexecutor), the
/// group `fsGroup` all of them.
fn owner(ctx: &PodContext, volume: &Volume) -> Owner {
    let Some(spec) = ctx.pod.spec.as_ref() else { return Owner::default() };
    let mut users = spec.containers.iter().map(|container| ctx.rights(container).uid);
    let first = users.next().flatten();
    let uid = first.filter(|first| volume.projected.is_some() && users.all(|user| user == Some(*first)));
    let gid = spec.security_context.as_ref().and_then(|context| context.fs_group);
    Owner { uid: uid.and_then(|id| u32::try_from(id).ok()), gid: gid.and_then(|id| u32::try_from(id).ok()) }
}

async fn claimed(ctx: &PodContext, claim: &str) -> Result<PathBuf> {
    let client = ctx.node.client().await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), ctx.namespace());
    let found = claims.get_opt(claim).await?;
    let found = found.with_context(|| format!("persistentvolumeclaim \"{claim}\" not found"))?;
    let volume = found.spec.and_then(|spec| spec.volume_name).filter(|name| !name.is_empty());
    let volume = volume.with_context(|| format!("PVC {claim} is not bound"))?;
    let volume = Api::<PersistentVolume>::all(client).get(&volume).await?;
    let host = volume.spec.and_then(|spec| spec.host_path);
    Ok(PathBuf::from(host.context("the test node mounts hostPath volumes only")?.path))
}

/// What the files of a volume are now.
async fn payload(ctx: &PodContext, volume: &Volume, tokens: &mut Tokens) -> Result<Payload> {
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let mode = mode_of(source.default_mode);
        add_config_map(ctx, &source.name, source.optional, source.items.as_deref(), mode, &mut files).await?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let mode = mode_of(source.default_mode);
        add_secret(ctx, name, source.optional, source.items.as_deref(), mode, &mut files).await?;
    } else if let Some(source) = &volume.downward_api {
        add_fields(ctx, source.items.as_deref(), mode_of(source.default_mode), &mut files)?;
    } else if let Some(projected) = &volume.projected {
        let mode = mode_of(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            add_projection(ctx, volume, source, mode, tokens, &mut files).await?;
        }
    } else {
        bail!("the test node does not know this kind of volume");
    }
    Ok(files)
}

async fn add_projection(
    ctx: &PodContext,
    volume: &Volume,
    source: &VolumeProjection,
    mode: u32,
    tokens: &mut Tokens,
    files: &mut Payload,
) -> Result<()> {
    if let Some(source) = &source.config_map {
        add_config_map(ctx, &source.name, source.optional, source.items.as_deref(), mode, files).await
    } else if let Some(source) = &source.secret {
        add_secret(ctx, &source.name, source.optional, source.items.as_deref(), mode, files).await
    } else if let Some(source) = &source.downward_api {
        add_fields(ctx, source.items.as_deref(), mode, files)
    } else if let Some(source) = &source.service_account_token {
        let owner = owner(ctx, volume);
        // As `collectData` in pkg/volume/projected/projected.go: nobody else reads it, where we know who does.
        let mode = match (owner.uid, owner.gid) {
            (None, None) => mode,
            (_, None) => 0o600,
            (_, Some(_)) => 0o640,
        };
        let token = tokens.of(ctx, source).await?;
        files.insert(source.path.clone(), Content { bytes: token.into_bytes(), mode });
        Ok(())
    } else {
        bail!("the test node does not know this source of a projected volume")
    }
}

async fn add_config_map(
    ctx: &PodContext,
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    files: &mut Payload,
) -> Result<()> {
    let map = config_map(ctx, name, optional).await?.unwrap_or_default();
    let texts = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binaries = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    add_keys(&texts.chain(binaries).collect(), items, optional, mode, files)
}

async fn add_secret(
    ctx: &PodContext,
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    files: &mut Payload,
) -> Result<()> {
    let secret = secret(ctx, name, optional).await?.unwrap_or_default();
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    add_keys(&data.collect(), items, optional, mode, files)
}

fn add_keys(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
    files: &mut Payload,
) -> Result<()> {
    let Some(items) = items else {
        files.extend(data.iter().map(|(key, bytes)| (key.clone(), Content { bytes: bytes.clone(), mode })));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                let mode = item.mode.map_or(mode, |mode| mode_of(Some(mode)));
                files.insert(item.path.clone(), Content { bytes: bytes.clone(), mode });
            }
            None if optional == Some(true) => {}
            None => bail!("references non-existent config key: {}", item.key),
        }
    }
    Ok(())
}

fn add_fields(
    ctx: &PodContext,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
    files: &mut Payload,
) -> Result<()> {
    let pod = ctx.latest.borrow().clone();
    for item in items.into_iter().flatten() {
        let text = if let Some(reference) = &item.field_ref {
            field(&pod, &reference.field_path, &ctx.address.to_string(), &ctx.node.address.to_string())?
        } else if let Some(reference) = &item.resource_field_ref {
            let named = |container: &&Container| Some(&container.name) == reference.container_name.as_ref();
            let container = pod.spec.as_ref().and_then(|spec| spec.containers.iter().find(named));
            resource(container.context("no such container")?, reference)?
        } else {
            bail!("an item of the downward API without a source")
        };
        let mode = item.mode.map_or(mode, |mode| mode_of(Some(mode)));
        files.insert(item.path.clone(), Content { bytes: text.into_bytes(), mode });
    }
    Ok(())
}

fn mode_of(mode: Option<i32>) -> u32 {
    u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0o644)
}
