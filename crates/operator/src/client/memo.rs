//! What a new leader needs of a run that has begun, in a ConfigMap: bytes that mean nothing here.
//!
//! Packed (gzip), because a ConfigMap holds 1 MiB, and written whole each time: there is one state, the last one. Deliberately
//! without knowledge of when it is to be written; whoever decides writes first and acts then.

use super::fenced::{Content, FencedMap, StoreError};
use crate::pods::build::RunIdentity;
use crate::pods::config_maps::BINARY_BYTES_MAX;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kube::Client;
use lockstep_core::problem::Problem;
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Key of the state in the ConfigMap.
const STATE_KEY: &str = "state.gz";
/// The most that is packed and unpacked, bytes. What does not get this small fits in no ConfigMap; and what somebody else
/// put there does not fill the memory.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// The state of one run, taken by one leader.
#[derive(Debug)]
pub struct Memo {
    map: FencedMap,
    run: RunIdentity,
}

impl Memo {
    /// Takes the state for the leader of `epoch`, and reads it; `None` when none was saved. From here on no earlier leader
    /// can save one.
    ///
    /// # Errors
    /// See [`FencedMap::take`]; and when it is no state.
    pub async fn take(
        client: Client,
        run: &RunIdentity,
        epoch: i64,
    ) -> Result<(Self, Option<Vec<u8>>), StoreError> {
        let (map, mut content) = FencedMap::take(client, run, run.state_config_map(), epoch).await?;
        let memo = Self { map, run: run.clone() };
        let Some(packed) = content.binaries.remove(STATE_KEY) else { return Ok((memo, None)) };
        let state = unpack(&packed).map_err(|error| memo.refused(&error, "cannot be read"))?;
        Ok((memo, Some(state)))
    }

    /// Saves the state in place of the one before, durably.
    ///
    /// # Errors
    /// See [`FencedMap::put`]; [`StoreError::Refused`] when it does not fit, and then the one before still stands.
    pub async fn save(&mut self, state: Vec<u8>) -> Result<(), StoreError> {
        let bytes = state.len();
        let packing = tokio::task::spawn_blocking(move || pack(&state));
        let packed = match packing.await {
            Ok(Ok(packed)) => packed,
            Ok(Err(error)) => return Err(self.refused(&error, "cannot be packed")),
            Err(error) => return Err(self.refused(&error, "cannot be packed")),
        };
        if bytes > UNPACKED_BYTES_MAX || packed.len() > BINARY_BYTES_MAX {
            let size = format!(
                "it has {bytes} bytes, packed {}, and a ConfigMap holds {BINARY_BYTES_MAX}",
                packed.len()
            );
            return Err(self.refused(&size, "cannot be kept"));
        }
        let binaries = BTreeMap::from([(STATE_KEY.to_owned(), packed)]);
        self.map.put(&Content { texts: BTreeMap::new(), binaries }).await
    }

    /// Deletes the state of a run that is finished, unless a later leader has it.
    ///
    /// # Errors
    /// See [`FencedMap::delete`].
    pub async fn delete(client: Client, run: &RunIdentity, epoch: i64) -> Result<(), StoreError> {
        FencedMap::delete(client, run, run.state_config_map(), epoch).await
    }

    fn refused(&self, cause: &dyn std::fmt::Display, what: &str) -> StoreError {
        let RunIdentity { namespace, name, uid: _ } = &self.run;
        let problem = Problem::new(
            format!("the state of run {namespace}/{name} {what}: no other replica could go on with it"),
            cause.to_string(),
        )
        .likely("thousands of agents or stages, or a ConfigMap that was changed by hand")
        .next(format!("kubectl describe configmap {} -n {namespace}", self.run.state_config_map()))
        .next("make the run smaller: fewer agents, fewer stages");
        StoreError::Refused(Box::new(problem))
    }
}

fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes)?;
    packed.finish()
}

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(UNPACKED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > UNPACKED_BYTES_MAX {
        true => Err(std::io::Error::other(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_packing() {
        let state: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
        let packed = pack(&state).expect("packs");
        assert!(packed.len() < BINARY_BYTES_MAX, "{}", packed.len());
        assert_eq!(unpack(&packed).expect("unpacks"), state);
    }

    #[test]
    fn what_is_torn_or_too_large_is_no_state() {
        let packed = pack(&vec![0; UNPACKED_BYTES_MAX + 1]).expect("packs");
        let refused = unpack(&packed).expect_err("too large").to_string();
        assert!(refused.contains("67108864"), "{refused}");
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        assert!(unpack(b"{}").is_err());
    }
}
