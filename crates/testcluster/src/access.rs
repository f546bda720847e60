//! Ways into a control plane: clients, kubeconfigs, namespaces, for the admin and for others.

use crate::ControlPlane;
use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions::is_created};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the controllers may take to furnish a namespace.
const FURNISHED_LIMIT: Duration = Duration::from_secs(60);
/// Life of the tokens that tests get for ServiceAccounts, in seconds.
const TOKEN_LIFE_S: i64 = 3600;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// May everything (`system:masters`).
    Admin,
    /// A ServiceAccount, with a token made by the TokenRequest API.
    ServiceAccount {
        /// Namespace of it.
        namespace: String,
        /// Name of it.
        name: String,
    },
    /// A user, whom the admin impersonates.
    User {
        /// User name.
        name: String,
        /// Groups, beyond `system:authenticated`.
        groups: Vec<String>,
    },
}

impl Caller {
    /// A ServiceAccount, which must exist.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// A user in no group of his own.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self::User { name: name.to_owned(), groups: Vec::new() }
    }

    /// A node, as its kubelet is known to the API server.
    pub(crate) fn node(name: &str) -> Self {
        Self::User { name: format!("system:node:{name}"), groups: vec!["system:nodes".to_owned()] }
    }
}

/// Pod Security level of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSecurity {
    /// Everything goes; what a namespace without labels has.
    Privileged,
    /// No known way to gain rights.
    Baseline,
    /// Hardened: non-root, no capabilities, default seccomp.
    Restricted,
}

impl ControlPlane {
    /// A client that may everything.
    ///
    /// # Panics
    /// The API server's certificate cannot be read.
    pub async fn client(&self) -> Client {
        self.client_as(&Caller::Admin).await
    }

    /// A client that may what the caller may.
    ///
    /// # Panics
    /// The caller gets no token, for instance since there is no such ServiceAccount.
    pub async fn client_as(&self, caller: &Caller) -> Client {
        let path = self.kubeconfig_as(caller).await;
        client(&path).await.unwrap_or_else(|error| panic!("{caller:?} has no client: {error:?}"))
    }

    /// Path of a kubeconfig that may everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.admin_kubeconfig()
    }

    /// Path of a kubeconfig of the caller.
    ///
    /// # Panics
    /// As [`ControlPlane::client_as`].
    pub async fn kubeconfig_as(&self, caller: &Caller) -> PathBuf {
        let write = async {
            let (credentials, namespace) = match caller {
                Caller::Admin => return Ok(self.kubeconfig()),
                Caller::User { name, groups } => {
                    let groups = serde_json::to_string(groups)?;
                    (format!("token: admin-token, as: '{name}', as-groups: {groups}"), "default")
                }
                Caller::ServiceAccount { namespace, name } => {
                    let token = self.request_token(namespace, name, &[], None).await?;
                    (format!("token: '{token}'"), namespace.as_str())
                }
            };
            self.layout.kubeconfig(&self.unique("caller"), &credentials, namespace)
        };
        write.await.unwrap_or_else(|error: anyhow::Error| panic!("{caller:?} has no kubeconfig: {error:?}"))
    }

    /// A token of a ServiceAccount, made by the TokenRequest API for these audiences (none: the API server's).
    ///
    /// # Panics
    /// There is no such ServiceAccount.
    pub async fn token(&self, namespace: &str, name: &str, audiences: &[&str]) -> String {
        let token = self.request_token(namespace, name, audiences, None).await;
        token.unwrap_or_else(|error| panic!("no token of ServiceAccount {namespace}/{name}: {error:?}"))
    }

    /// A token of a pod's ServiceAccount that is bound to the pod, as a projected volume gives one.
    ///
    /// # Panics
    /// There is no such pod.
    pub async fn pod_token(&self, namespace: &str, pod: &str, audiences: &[&str]) -> String {
        let request = async {
            let pods: Api<Pod> = Api::namespaced(self.client_of_admin().await?, namespace);
            let pod = pods.get(pod).await?;
            let account =
                pod.spec.and_then(|spec| spec.service_account_name).context("a pod without an account")?;
            let bound = BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name,
                uid: pod.metadata.uid,
            };
            self.request_token(namespace, &account, audiences, Some(bound)).await
        };
        request.await.unwrap_or_else(|error| panic!("no token of pod {namespace}/{pod}: {error:?}"))
    }

    async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        audiences: &[&str],
        bound_object_ref: Option<BoundObjectReference>,
    ) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client_of_admin().await?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audiences.iter().map(ToString::to_string).collect(),
                expiration_seconds: Some(TOKEN_LIFE_S),
                bound_object_ref,
            },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(answer.status.context("a TokenRequest without status")?.token)
    }

    async fn client_of_admin(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// A fresh namespace, whose name begins with `prefix` and is nobody else's, furnished as the controllers furnish one
    /// (ServiceAccount `default`, ConfigMap `kube-root-ca.crt`).
    ///
    /// # Panics
    /// The controllers do not furnish it.
    pub async fn namespace(&self, prefix: &str) -> String {
        self.namespace_with(prefix, PodSecurity::Privileged).await
    }

    /// A fresh namespace that enforces a Pod Security level.
    ///
    /// # Panics
    /// As [`ControlPlane::namespace`].
    pub async fn namespace_with(&self, prefix: &str, level: PodSecurity) -> String {
        let name = self.unique(prefix);
        let make = async {
            let client = self.client_of_admin().await?;
            let label = match level {
                PodSecurity::Privileged => "privileged",
                PodSecurity::Baseline => "baseline",
                PodSecurity::Restricted => "restricted",
            };
            let labels = [("pod-security.kubernetes.io/enforce".to_owned(), label.to_owned())];
            let metadata =
                ObjectMeta { name: Some(name.clone()), labels: Some(labels.into()), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
            let bundles: Api<ConfigMap> = Api::namespaced(client, &name);
            let furnished = async {
                await_condition(accounts, "default", is_created()).await?;
                await_condition(bundles, "kube-root-ca.crt", is_created()).await?;
                anyhow::Ok(())
            };
            tokio::time::timeout(FURNISHED_LIMIT, furnished)
                .await
                .context("the controllers do not furnish it")?
        };
        make.await.unwrap_or_else(|error| panic!("namespace {name}: {error:?}"));
        name
    }
}

/// A client for a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}
