//! Images: what this node has is there, what it has not cannot be pulled, as with a registry that does not know it.
//!
//! Reasons, messages and Events are those of pkg/kubelet/images/image_manager.go.

use super::container::{CONFIGURATION_RETRY, doubled, wait};
use super::context::PodContext;
use super::events::{NORMAL, WARNING};
use super::faults::Fault;
use super::options::Image;
use k8s_openapi::api::core::v1::Container;

/// The image, as soon as it can be pulled.
pub(super) async fn pull(ctx: &PodContext, container: &Container) -> Image {
    let (name, wanted) = (&container.name, container.image.as_deref().unwrap_or_default());
    let mut failures = 0;
    loop {
        if !is_image_name(wanted) {
            let message = format!(
                "Failed to apply default image tag \"{wanted}\": couldn't parse image name \"{wanted}\": invalid reference format"
            );
            ctx.container_event(name, WARNING, "InspectFailed", &message);
            wait(ctx, name, "InvalidImageName", &message);
            tokio::time::sleep(ctx.node.options.back_off).await;
            continue;
        }
        let faults = ctx.node.orders.of(&ctx.key());
        let ordered = faults.into_iter().find_map(|fault| match fault {
            Fault::ImagePull(message) => Some(message),
            Fault::CreateContainer(_) | Fault::SlowStart(_) => None,
        });
        let cause = match (ordered, ctx.node.options.images.get(wanted)) {
            (None, Some(image)) => {
                let message = format!(
                    "Container image \"{wanted}\" already present on machine and can be accessed by the pod"
                );
                ctx.container_event(name, NORMAL, "Pulled", &message);
                return image.clone();
            }
            (Some(message), _) => message,
            (None, None) => format!("failed to resolve reference \"{wanted}\": {wanted}: not found"),
        };
        let (reason, message) = if container.image_pull_policy.as_deref() == Some("Never") {
            (
                "ErrImageNeverPull",
                format!("Container image \"{wanted}\" is not present with pull policy of Never"),
            )
        } else {
            let message = format!("failed to pull and unpack image \"{wanted}\": {cause}");
            ctx.container_event(name, NORMAL, "Pulling", &format!("Pulling image \"{wanted}\""));
            ctx.container_event(
                name,
                WARNING,
                "Failed",
                &format!("Failed to pull image \"{wanted}\": {message}"),
            );
            ("ErrImagePull", message)
        };
        ctx.container_event(name, WARNING, "Failed", &format!("Error: {reason}"));
        wait(ctx, name, reason, &message);
        if reason == "ErrImagePull" {
            // The next sync finds the pull in its back-off.
            tokio::time::sleep(CONFIGURATION_RETRY.min(ctx.node.options.back_off)).await;
            let back_off = format!("Back-off pulling image \"{wanted}\"");
            ctx.container_event(name, NORMAL, "BackOff", &back_off);
            ctx.container_event(name, WARNING, "Failed", "Error: ImagePullBackOff");
            wait(ctx, name, "ImagePullBackOff", &format!("{back_off}: ErrImagePull: {message}"));
        }
        tokio::time::sleep(doubled(ctx.node.options.back_off, failures)).await;
        failures += 1;
    }
}

/// Whether a name can be one of an image: lower case but for the tag, no spaces.
fn is_image_name(name: &str) -> bool {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[start..].find([':', '@']).map_or(name.len(), |at| start + at);
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/:".contains(&byte);
    let tag = name[end..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte));
    end > start && name[..end].bytes().all(is_known) && tag && name[end..] != *":"
}

#[cfg(test)]
mod tests {
    use super::is_image_name;

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for (name, expected) in [
            ("lockstep:test", true),
            ("registry.example:5000/a/b:V1", true),
            ("a@sha256:00ff", true),
            ("Bad:1", false),
            ("a b", false),
            ("a:", false),
            (":tag", false),
            ("", false),
        ] {
            assert_eq!(is_image_name(name), expected, "{name}");
        }
    }
}
