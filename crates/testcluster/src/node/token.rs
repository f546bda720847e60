//! Tokens of ServiceAccounts for projected volumes: bound to the pod, and replaced before they expire, as in
//! pkg/kubelet/token/token_manager.go: at 80 % of their life.

use super::context::PodContext;
use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Life of a token whose projection asks for none.
const DEFAULT_LIFE_S: i64 = 3600;

/// The tokens of a pod by path.
#[derive(Default)]
pub(super) struct Tokens(BTreeMap<String, Token>);

struct Token {
    text: String,
    made: Instant,
    refresh_after: Duration,
}

impl Tokens {
    /// Whether one of them is to be replaced.
    pub(super) fn is_due(&self) -> bool {
        self.0.values().any(Token::is_due)
    }

    /// The token for a projection, a new one if it is due.
    pub(super) async fn of(
        &mut self,
        ctx: &PodContext,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String> {
        if let Some(token) = self.0.get(&source.path).filter(|token| !token.is_due()) {
            return Ok(token.text.clone());
        }
        let spec = ctx.pod.spec.as_ref().context("a pod without a spec")?;
        let account = spec.service_account_name.as_deref().unwrap_or("default");
        let life_s = source.expiration_seconds.unwrap_or(DEFAULT_LIFE_S);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: source.audience.clone().into_iter().collect(),
                expiration_seconds: Some(life_s),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: ctx.pod.metadata.name.clone(),
                    uid: ctx.pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(ctx.node.client().await, ctx.namespace());
        let made = Instant::now();
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let answer = answer.with_context(|| format!("failed to fetch token for serviceaccount {account}"))?;
        let text = answer.status.context("a TokenRequest without status")?.token;
        let life = Duration::from_secs(u64::try_from(life_s).unwrap_or(0));
        let refresh_after = ctx.node.options.token_refresh.unwrap_or(life * 4 / 5);
        self.0.insert(source.path.clone(), Token { text: text.clone(), made, refresh_after });
        Ok(text)
    }
}

impl Token {
    fn is_due(&self) -> bool {
        self.made.elapsed() >= self.refresh_after
    }
}
