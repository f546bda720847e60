//! A server that tells everything it was sent: nothing of it is in what the agent says.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::target::Target;
use lockstep_agent::target::place::Place;
use lockstep_agent::target::s3::{Credentials, S3Client, S3Place};
use lockstep_testkit::echo::{Echo, Manner, encodings};
use lockstep_testkit::s3::{ACCESS_KEY, Fault, SECRET_KEY, TestS3};
use s3_common::*;

const TOKEN: &str = "FwoGZXIvYXdzEBYaDK/session+token==";

fn credentials() -> Credentials {
    let values = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", TOKEN),
    ];
    let value = |name: &str| values.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
    Credentials::from_lookup(value).unwrap()
}

#[track_caller]
fn expect_silence(echo: &Echo, manner: &Manner, said: &str) {
    for (what, secret) in echo.told() {
        for text in encodings(&secret) {
            assert!(!said.contains(&text), "{manner:?}: {what} {text} is told: {said}");
        }
    }
}

#[test]
fn nothing_that_a_server_echoes_is_told_or_sent_elsewhere() {
    let (server, elsewhere) = (TestS3::start(), TestS3::start());
    let plan = here(&server);
    let client = S3Client::connect_with(&plan, USER_AGENT, 0, credentials()).unwrap();
    let mut target = client.target(&dataset(), Default::default()).unwrap();
    let echo = Echo::knowing(&[SECRET_KEY]);
    let mut manners = Vec::new();
    for status in [400, 403, 404, 500, 503] {
        manners.extend([
            Manner::Words(status),
            Manner::Encoded(status),
            Manner::Code(status),
            Manner::Headers(status),
        ]);
    }
    manners.extend([301, 302, 307, 308].map(|status| Manner::Redirect(status, elsewhere.endpoint())));
    // As a success, where another document is expected.
    manners.extend([Manner::Words(200), Manner::Headers(200)]);
    run(async {
        for manner in manners {
            let fault = server.fault(Fault::echo(&echo, manner.clone()));
            let object = object(1, "d00/f1", 2_000);
            let said = [
                format!("{:?}", target.put(object).await),
                format!("{:?}", target.get(object, true).await),
                format!("{:?}", target.head(object).await),
                format!("{:?}", target.list(object).await),
                format!("{:?}", target.delete(object).await),
            ]
            .join("\n");
            expect_silence(&echo, &manner, &said);
            if matches!(manner, Manner::Words(403)) {
                assert!(said.contains("HTTP 403 SignatureDoesNotMatch on PUT of d00/f1"), "{said}");
            }
            let mut place = S3Place::connect_with(&plan, USER_AGENT, 0, credentials()).unwrap();
            let (found, locked) = (place.look().await.err(), place.lock("run-1").await.err());
            let said = format!("{found:?} {locked:?} {:?} {:?}", place.check().await, target.account());
            expect_silence(&echo, &manner, &said);
            fault.release();
        }
    });
    let told: Vec<&str> = echo.told().into_iter().map(|(what, _)| what).collect();
    for what in ["Known", "AWSAccessKeyId", "StringToSign", "SignatureProvided", "Token"] {
        assert!(told.contains(&what), "{what} was never told: the server is not what it should be");
    }
    assert!(elsewhere.seen().is_empty(), "a redirect was followed: {:?}", elsewhere.seen());
}
