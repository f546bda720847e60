//! A multipart upload that does not stay behind: one that is dropped before it is complete is aborted in the
//! background, within the second that a stop may take. S3 would keep, and bill, its parts for ever.

use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload};
use std::time::Duration;

/// How long an abort in the background may take.
const ABORT_LIMIT: Duration = Duration::from_millis(900);

/// A multipart upload under way.
pub(super) struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    pub(super) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self(Some(upload))
    }

    /// Sends the next part, and waits until the server has it.
    pub(super) async fn part(&mut self, body: Bytes) -> object_store::Result<()> {
        match &mut self.0 {
            Some(upload) => upload.put_part(PutPayload::from(body)).await,
            None => Ok(()),
        }
    }

    /// Makes the parts an object.
    pub(super) async fn complete(mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Best effort: what stays behind is named in docs/targets.md, with the rule that removes it.
                let _ = tokio::time::timeout(ABORT_LIMIT, upload.abort()).await;
            });
        }
    }
}
