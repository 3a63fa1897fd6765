//! A client of compat.proto by tonic: `compat-client TARGET`. Prints a line of JSON for each check.

use std::time::Duration;

use tokio_stream::{iter, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

mod pb {
    tonic::include_proto!("compat.v1");
}

use pb::compat_client::CompatClient;
use pb::{EchoRequest, FailRequest, FateRequest, RepeatRequest, SleepRequest};

type Client = CompatClient<Channel>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

const TEXT: &str = "what went wrong: 50 % and ünïcode\n";
const LARGE: usize = 8 << 20;

fn ensure(holds: bool, what: impl std::fmt::Display) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_string().into()) }
}

fn echo(payload: Vec<u8>) -> EchoRequest {
    EchoRequest { payload, ..Default::default() }
}

async fn unary(mut client: Client) -> Outcome {
    for size in [0, 1, 100, 16384, 65536, 1 << 20, (4 << 20) - 64] {
        let answer = client.echo(echo(vec![0; size])).await?.into_inner();
        ensure(answer.payload.len() == size, size)?;
    }
    Ok(())
}

async fn server_stream(mut client: Client) -> Outcome {
    let request = RepeatRequest { count: 300, size: 20000, ..Default::default() };
    let mut answers = client.repeat(request).await?.into_inner();
    for number in 0..300 {
        let answer = answers.message().await?.ok_or("it ended too soon")?;
        ensure(answer.number == number, number)?;
    }
    ensure(answers.message().await?.is_none(), "more than there should be")
}

async fn client_stream(mut client: Client) -> Outcome {
    let answer = client.collect(iter((0..300).map(|_| echo(vec![0; 10000])))).await?.into_inner();
    ensure(answer.messages == 300 && answer.bytes == 3_000_000, format!("{answer:?}"))
}

async fn half_close(mut client: Client) -> Outcome {
    let requests = iter((0..20u8).map(|number| echo(vec![number])));
    let mut answers = client.chat(requests).await?.into_inner();
    for number in 0..20u8 {
        let answer = answers.message().await?.ok_or("it ended too soon")?;
        ensure(answer.payload == [number], number)?;
    }
    ensure(answers.message().await?.is_some_and(|answer| answer.end), "no end")?;
    ensure(answers.next().await.is_none(), "more after the end")
}

async fn metadata(mut client: Client) -> Outcome {
    let mut request = Request::new(echo(vec![]));
    let sent = request.metadata_mut();
    sent.insert("echo-initial-a", "x y".parse()?);
    sent.insert_bin("echo-initial-b-bin", MetadataValue::from_bytes(&[0, 1, 254, 255]));
    let answer = client.echo(request).await?;
    let got = answer.metadata();
    ensure(got.get("echo-initial-a").is_some_and(|value| value == "x y"), "echo-initial-a")?;
    let bytes = got.get_bin("echo-initial-b-bin").ok_or("no bytes")?.to_bytes()?;
    ensure(bytes[..] == [0, 1, 254, 255], "echo-initial-b-bin")
}

async fn status(mut client: Client) -> Outcome {
    for code in 1..=16 {
        let request = FailRequest { code, message: TEXT.into(), detail: "why".into(), messages: 0 };
        let error = client.fail(request).await.err().ok_or("it did not fail")?;
        ensure(error.code() == Code::from(code as i32) && error.message() == TEXT, &error)?;
        ensure(!error.details().is_empty(), "no details")?;
    }
    Ok(())
}

async fn was_cancelled(client: &mut Client, key: &str) -> Outcome {
    let request = FateRequest { key: key.into(), wait_ms: 5000, cancelled: true };
    ensure(client.fate(request).await?.into_inner().cancelled, "the handler was not cancelled")
}

async fn deadline(mut client: Client) -> Outcome {
    let mut request = Request::new(SleepRequest { key: "rust-deadline".into(), ms: 10000 });
    request.set_timeout(Duration::from_millis(300));
    let error = client.sleep(request).await.err().ok_or("it did not fail")?;
    // tonic says CANCELLED if its own clock is first.
    ensure(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), &error)?;
    was_cancelled(&mut client, "rust-deadline").await
}

async fn cancel(mut client: Client) -> Outcome {
    let request = SleepRequest { key: "rust-cancel".into(), ms: 10000 };
    let mut answers = client.sleep_stream(request).await?.into_inner();
    answers.message().await?;
    drop(answers);
    was_cancelled(&mut client, "rust-cancel").await
}

async fn many_at_once(client: Client) -> Outcome {
    let calls: Vec<_> = (0..200u32)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let payload = number.to_be_bytes().to_vec();
                let request = EchoRequest { payload: payload.clone(), delay_ms: number % 7, ..Default::default() };
                client.echo(request).await.map(|answer| answer.into_inner().payload == payload)
            })
        })
        .collect();
    for call in calls {
        ensure(call.await??, "another answer than its own")?;
    }
    Ok(())
}

fn say(check: &str, outcome: Outcome) {
    let ok = outcome.is_ok();
    let detail = outcome.err().map(|error| format!("{error:?}")).unwrap_or_default();
    println!("{{\"check\": {check:?}, \"ok\": {ok}, \"detail\": {detail:?}}}");
}

#[tokio::main]
async fn main() -> Outcome {
    let target = std::env::args().nth(1).ok_or("usage: compat-client TARGET")?;
    let client = CompatClient::connect(format!("http://{target}"))
        .await?
        .max_decoding_message_size(LARGE)
        .max_encoding_message_size(LARGE);
    say("unary", unary(client.clone()).await);
    say("server_stream", server_stream(client.clone()).await);
    say("client_stream", client_stream(client.clone()).await);
    say("half_close", half_close(client.clone()).await);
    say("metadata", metadata(client.clone()).await);
    say("status", status(client.clone()).await);
    say("deadline", deadline(client.clone()).await);
    say("cancel", cancel(client.clone()).await);
    say("many_at_once", many_at_once(client).await);
    Ok(())
}
