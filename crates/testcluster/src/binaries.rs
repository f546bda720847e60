//! The programs that the tests start: found, or built once into the user's cache.
//!
//! No registry ships a kube-apiserver, but the Go modules build one. `tests/control-plane` pins them; what is built lies in
//! `${XDG_CACHE_HOME:-~/.cache}/lockstep/<module>-<hash>`, named after the files that pin it, so that a checkout with
//! other versions has other programs, and none is built twice. Several test processes may want them at once: one
//! builds under a file lock, the others wait and say so. `KUBEBUILDER_ASSETS` is honoured for what lies there.
//!
//! Nothing is skipped in silence: without Go and without a finished program this is an error that says what to do. And
//! nothing of it is for use: the programs are stripped, and serve tests on loopback.

use anyhow::{Context, Result};
use lockstep_core::problem::Problem;
use sha2::{Digest, Sha256};
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often somebody who waits is told what for.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);
/// How often a build, and a lock that another process holds, is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A program that the tests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The store of the API server.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kubectl.
    Kubectl,
    /// The kubelet.
    Kubelet,
    /// kube-proxy.
    Proxy,
    /// CoreDNS, of a module of its own.
    CoreDns,
    /// Rancher's local-path-provisioner, of a module of its own: volumes on the disks of nodes.
    LocalPath,
    /// `tests/control-plane/pod`: what holds a pod's namespaces, and asks the network from within.
    Pod,
    /// helm 4, of a module of its own.
    Helm,
    /// `tests/control-plane/kstatus`: kstatus' own library, asked about objects on stdin.
    Kstatus,
    /// `tests/gitops`: Argo CD's and Flux's interpreters, asked about objects on stdin.
    GitOps,
    /// kind, of `tests/kind`: makes clusters out of Docker containers.
    Kind,
    /// actionlint, of `tests/actionlint`: reads workflows of GitHub.
    Actionlint,
}

/// Where a tool comes from.
struct Source {
    /// File name of the program.
    name: &'static str,
    /// Directory of its module, below `tests/`.
    module: &'static str,
    /// Go package that is its `main`.
    package: &'static str,
    /// Whether `KUBEBUILDER_ASSETS` holds one of this name.
    is_asset: bool,
}

impl Tool {
    fn source(self) -> Source {
        const KUBERNETES: &str = "control-plane";
        let (name, module, package, is_asset) = match self {
            // The main package of etcd is the root of its module, which `go build` would call "server".
            Self::Etcd => ("etcd", KUBERNETES, "go.etcd.io/etcd/server/v3", true),
            Self::ApiServer => ("kube-apiserver", KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver", true),
            Self::ControllerManager => (
                "kube-controller-manager",
                KUBERNETES,
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                false,
            ),
            Self::Scheduler => ("kube-scheduler", KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler", false),
            Self::Kubectl => ("kubectl", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", true),
            Self::Kubelet => ("kubelet", KUBERNETES, "k8s.io/kubernetes/cmd/kubelet", false),
            Self::Proxy => ("kube-proxy", KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy", false),
            Self::CoreDns => ("coredns", "control-plane/coredns", ".", false),
            Self::LocalPath => (
                "local-path-provisioner",
                "control-plane/local-path",
                "github.com/rancher/local-path-provisioner",
                false,
            ),
            Self::Pod => ("pod", "control-plane/pod", ".", false),
            Self::Helm => ("helm", "control-plane/helm", "helm.sh/helm/v4/cmd/helm", false),
            Self::Kstatus => ("kstatus", "control-plane/kstatus", ".", false),
            Self::GitOps => ("gitops", "gitops", ".", false),
            Self::Kind => ("kind", "kind", "sigs.k8s.io/kind", false),
            Self::Actionlint => {
                ("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint", false)
            }
        };
        Source { name, module, package, is_asset }
    }

    /// Path of the program, which is built first if this machine has none of the pinned version.
    ///
    /// # Errors
    /// It is not there and cannot be built: a [`Problem`] that says what to do.
    pub fn path(self) -> Result<PathBuf> {
        let source = self.source();
        let module = Module::of(source.module)?;
        let program = self.place(&module);
        if !program.is_file() {
            let _building = module.lock(source.name)?;
            // Whoever had the lock before may have built it.
            if !program.is_file() {
                module.build(&source, &program)?;
            }
        }
        Ok(program)
    }

    /// Path of the program, if this machine has it already.
    #[must_use]
    pub fn found(self) -> Option<PathBuf> {
        let module = Module::of(self.source().module).ok()?;
        Some(self.place(&module)).filter(|program| program.is_file())
    }

    /// Where it is, or would be built.
    fn place(self, module: &Module) -> PathBuf {
        let source = self.source();
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|_| source.is_asset);
        let asset = assets.map(|assets| Path::new(&assets).join(source.name)).filter(|asset| asset.is_file());
        asset.unwrap_or_else(|| module.cache.join(source.name))
    }
}

/// A Go module of `tests/`, and the cache of what it pins.
struct Module {
    directory: PathBuf,
    cache: PathBuf,
    go_mod: String,
}

impl Module {
    fn of(name: &str) -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name);
        let mut hash = Sha256::new();
        // `main.go` where the module has code of its own: what is built follows it too.
        for file in ["go.mod", "go.sum", "main.go"] {
            let path = directory.join(file);
            match std::fs::read(&path) {
                Ok(content) => hash.update(content),
                // What has no `require` has no sums either.
                Err(_) if file != "go.mod" => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to read {}", path.display()));
                }
            }
        }
        let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let cache = cache().join(format!("{}-{hash}", name.replace('/', "-")));
        let go_mod = std::fs::read_to_string(directory.join("go.mod"))?;
        Ok(Self { directory, cache, go_mod })
    }

    /// Version that `go.mod` requires of a module.
    fn version_of(&self, module: &str) -> Result<&str> {
        let found = self.go_mod.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(" v"));
        let found = found.and_then(|rest| rest.split_whitespace().next());
        found.with_context(|| format!("{}/go.mod requires no {module}", self.directory.display()))
    }

    /// Flags of the linker. Built from modules, a program does not know its version (Kubernetes then says
    /// `v0.0.0-master+$Format:%H$`, which nothing can parse), so the linker says it.
    fn linker_flags(&self, tool: &str) -> Result<String> {
        const KUBERNETES: &str = "-X k8s.io/component-base/version";
        Ok(match tool {
            "etcd"
            | "kstatus"
            | "gitops"
            | "kind"
            | "actionlint"
            | "coredns"
            | "local-path-provisioner"
            | "pod" => "-s -w".to_owned(),
            "helm" => {
                let version = self.version_of("helm.sh/helm/v4")?;
                format!("-s -w -X helm.sh/helm/v4/internal/version.version=v{version}")
            }
            _ => {
                let version = self.version_of("k8s.io/kubernetes")?;
                let mut parts = version.split('.');
                let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!(
                    "-s -w {KUBERNETES}.gitVersion=v{version} {KUBERNETES}.gitMajor={major} {KUBERNETES}.gitMinor={minor}"
                )
            }
        })
    }

    /// Waits until no other process builds programs of this module. The lock ends with its holder.
    fn lock(&self, wanted: &str) -> Result<File> {
        let path = self.cache.join("lock");
        let cannot = || format!("failed to lock {}", path.display());
        std::fs::create_dir_all(&self.cache).with_context(cannot)?;
        let file = File::create(&path).with_context(cannot)?;
        let mut progress = Progress::new(format!("{wanted}: waiting for the process that builds it"));
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => progress.tick(),
                Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
            }
            std::thread::sleep(POLL);
        }
    }

    fn build(&self, source: &Source, program: &Path) -> Result<()> {
        let fresh = self.cache.join(format!(".{}.{}", source.name, std::process::id()));
        let log = self.cache.join(format!("{}.log", source.name));
        let said = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        let mut go = Command::new("go");
        go.current_dir(&self.directory).args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
        ]);
        go.arg(self.linker_flags(source.name)?).arg("-o").arg(&fresh).arg(source.package);
        if source.name == "pod" {
            // It is all that there is in its image: no C library.
            go.env("CGO_ENABLED", "0");
        }
        // A workspace of the user's must not bend what is pinned here.
        go.env("GOWORK", "off").stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut building =
            go.spawn().map_err(|error| self.problem(source, &format!("go cannot be run: {error}")))?;
        let mut progress =
            Progress::new(format!("{}: being built into {}", source.name, self.cache.display()));
        let status = loop {
            if let Some(status) = building.try_wait()? {
                break status;
            }
            progress.tick();
            std::thread::sleep(POLL);
        };
        if !status.success() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(12).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            return Err(self.problem(source, &format!("go build ended with {status}\n{last}")).into());
        }
        // In one step, so that nobody starts half a program.
        std::fs::rename(&fresh, program).with_context(|| format!("failed to move {}", fresh.display()))?;
        progress.done();
        Ok(())
    }

    fn problem(&self, source: &Source, cause: &str) -> Problem {
        let mut problem = Problem::new(
            format!("These tests run a real {}, and this machine has none: {}", source.name, self.cache.display()),
            cause,
        )
        .likely("Go is not installed, or is older than `go` in tests/control-plane/go.mod asks for")
        .likely("the Go module proxy cannot be reached (GOPROXY), or the disk is full (the build takes about 5 GB)")
        .next("install Go (https://go.dev/dl) and run the tests again: the first build takes about 8 minutes on 2 cores");
        if source.is_asset {
            problem = problem.next(format!(
                "or set KUBEBUILDER_ASSETS to a directory with {} (`setup-envtest use -p path`)",
                source.name
            ));
        }
        problem.next(format!("or put the program there yourself: {}", self.cache.join(source.name).display()))
    }
}

/// Where what was built or fetched lies: `${XDG_CACHE_HOME:-~/.cache}/lockstep`.
#[must_use]
pub fn cache() -> PathBuf {
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    user.join("lockstep")
}

/// Lines on stderr, past the test harness' capture: ten silent minutes look like a hang.
struct Progress {
    what: String,
    began: Instant,
    told: Option<Instant>,
}

impl Progress {
    fn new(what: String) -> Self {
        Self { what, began: Instant::now(), told: None }
    }

    fn tick(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            self.told = Some(Instant::now());
            self.say("");
        }
    }

    fn done(&self) {
        self.say(": done");
    }

    fn say(&self, how: &str) {
        let line = format!("test control plane: {} ({} s){how}\n", self.what, self.began.elapsed().as_secs());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linker_is_told_the_pinned_versions() {
        let kubernetes = Module::of("control-plane").unwrap();
        let version = kubernetes.version_of("k8s.io/kubernetes").unwrap().to_owned();
        let flags = kubernetes.linker_flags("kube-apiserver").unwrap();
        assert!(flags.contains(&format!("version.gitVersion=v{version}")), "{flags}");
        assert!(flags.contains("version.gitMinor=3"), "{flags}");
        let helm = Module::of("control-plane/helm").unwrap();
        assert!(helm.linker_flags("helm").unwrap().ends_with(helm.version_of("helm.sh/helm/v4").unwrap()));
    }

    #[test]
    fn what_cannot_be_built_says_what_to_do() {
        let module = Module::of("control-plane").unwrap();
        let text = module.problem(&Tool::ApiServer.source(), "go cannot be run").to_string();
        for part in ["kube-apiserver", "cause", "likely", "next", "KUBEBUILDER_ASSETS"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
