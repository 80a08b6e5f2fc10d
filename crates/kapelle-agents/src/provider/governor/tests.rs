//! The pace of calls to a provider that tells its limits.

use kapelle_core::port::agent::Failure;
use kapelle_core::{Shard, Timestamp};

use super::*;

fn run(number: u8) -> RunId {
    RunId::new(Timestamp(1_700_000_000_000_000), [number; 10], Shard(1))
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let name = reqwest::header::HeaderName::from_static;
    pairs.iter().map(|(key, value)| (name(key), value.parse().unwrap())).collect()
}

fn too_much(seconds: u64) -> Trouble {
    let failure = Failure::new(FailureKind::RateLimited, "slow", "slow");
    failure.retry_after(Duration::from_secs(seconds)).into()
}

/// Whether leave is given without any time going by.
async fn at_once(governor: &Governor, run: RunId) -> Option<Leave> {
    tokio::time::timeout(Duration::ZERO, governor.leave(run, 10, None)).await.ok()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_a_wait_is_over() {
    let governor = Governor::default();
    let leave = at_once(&governor, run(1)).await.unwrap();
    governor.failed(&too_much(7));
    drop(leave);
    let before = Instant::now();
    let leave = governor.leave(run(1), 10, None).await;
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    // It was too much: one at a time from here on, at a pace, and slowly more.
    tokio::time::advance(Duration::from_secs(7)).await;
    assert!(at_once(&governor, run(1)).await.is_none());
    leave.is_well();
    assert!(at_once(&governor, run(1)).await.is_some());
}

/// `retry-after: 0`, or a date that a clock which goes wrong has made past.
#[tokio::test(start_paused = true)]
async fn who_says_at_once_and_refuses_again_is_asked_less_and_less_often() {
    let governor = Governor::default();
    let begun = Instant::now();
    for _ in 0..9 {
        drop(governor.leave(run(1), 10, None).await);
        governor.failed(&too_much(0));
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 60));
    drop(governor.leave(run(1), 10, None).await);
    // What it says is kept where it is longer; those that were under way with it are no new refusals.
    let last = Held { wait: Duration::from_secs(90), in_a_row: 10 };
    assert_eq!([governor.failed(&too_much(90)), governor.failed(&too_much(90))], [last; 2]);
    governor.begun(&HeaderMap::new());
    tokio::time::advance(Duration::from_secs(90)).await;
    let first = Held { wait: Duration::ZERO, in_a_row: 1 };
    assert_eq!(governor.failed(&too_much(0)), first);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_not_overdrawn_and_fills_again() {
    let governor = Governor::default();
    let told = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "2"),
        ("x-ratelimit-reset-requests", "58s"),
    ];
    governor.begun(&headers(&told));
    let leaves = [at_once(&governor, run(1)).await, at_once(&governor, run(1)).await];
    assert!(leaves.iter().all(Option::is_some));
    assert!(at_once(&governor, run(1)).await.is_none());
    // A call that a budget refuses takes nothing from others.
    let [unused, used] = leaves;
    unused.unwrap().is_not_used();
    let again = at_once(&governor, run(1)).await;
    assert!(again.is_some() && at_once(&governor, run(1)).await.is_none());
    drop((used, again));
    let before = Instant::now();
    drop(governor.leave(run(1), 10, None).await);
    let waited = before.elapsed();
    assert!((990..=1_010).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn runs_have_their_turns_one_after_the_other() {
    let governor = Governor::default();
    let told = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "60s"),
    ];
    governor.begun(&headers(&told));
    let order = Arc::new(Mutex::new(Vec::new()));
    let ask = |number: u8| {
        let (governor, order) = (governor.clone(), order.clone());
        async move {
            drop(governor.leave(run(number), 1, None).await);
            order.lock().unwrap().push(number);
        }
    };
    let asked = [1, 1, 1, 1, 2, 2, 3].map(ask);
    futures_util::future::join_all(asked).await;
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_begin_alike_wait_until_the_first_is_read() {
    let governor = Governor::default();
    let ask = |prefix| governor.leave(run(1), 1, Some(prefix));
    let at_once = async |prefix| tokio::time::timeout(Duration::ZERO, ask(prefix)).await.ok();
    let first = at_once(7).await.unwrap();
    assert!(at_once(8).await.is_some());
    assert!(at_once(7).await.is_none());
    first.is_read();
    assert!(at_once(7).await.is_some() && at_once(7).await.is_some());
    tokio::time::advance(CACHED).await;
    let again = at_once(7).await.unwrap();
    assert!(at_once(7).await.is_none());
    // It failed: the next one is the first.
    drop(again);
    assert!(at_once(7).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_prefix_holds_up_nobody_that_begins_otherwise() {
    let governor = Governor::default();
    let ask = |prefix| governor.leave(run(1), 1, Some(prefix));
    let _first = ask(7).await;
    let mut alike = std::pin::pin!(ask(7));
    assert!(futures_util::poll!(&mut alike).is_pending());
    let other = tokio::time::timeout(Duration::ZERO, ask(8)).await;
    assert!(other.is_ok(), "it begins otherwise");
    assert!(futures_util::poll!(&mut alike).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_no_limit() {
    let governor = Governor::default();
    let none = [("x-ratelimit-limit-requests", "0"), ("x-ratelimit-remaining-requests", "0")];
    governor.begun(&headers(&none));
    let _first = governor.leave(run(1), 1, None).await;
    assert!(at_once(&governor, run(1)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_no_call_waits_for_holds_for_all_the_same() {
    let governor = Governor::default();
    let late = Failure::new(FailureKind::Refused, "rate_limited", "come in a week");
    governor.failed(&late.retry_after(Duration::from_secs(90_000)).into());
    assert!(at_once(&governor, run(2)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_an_overloaded_provider_holds_for_all_as_well() {
    let governor = Governor::default();
    let failure = Failure::new(FailureKind::Unavailable, "overloaded_error", "busy");
    governor.failed(&failure.clone().into());
    assert!(at_once(&governor, run(1)).await.is_some());
    governor.failed(&failure.retry_after(Duration::from_secs(3)).into());
    let before = Instant::now();
    drop(governor.leave(run(2), 10, None).await);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_for_answers_is_not_overdrawn() {
    let governor = Governor::default();
    let told = [
        ("anthropic-ratelimit-output-tokens-limit", "1200"),
        ("anthropic-ratelimit-output-tokens-remaining", "100"),
        ("anthropic-ratelimit-output-tokens-reset", "2099-01-01T00:00:00Z"),
    ];
    // It took 60 of these 100.
    let mine = at_once(&governor, run(1)).await;
    governor.begun(&headers(&told));
    governor.answered(&Tokens { written: 60, ..Tokens::default() });
    drop(mine);
    assert!(at_once(&governor, run(1)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_what_it_waits_for_now() {
    let governor = Governor::default();
    let mut all: Vec<Leave> = Vec::new();
    for _ in 0..START {
        all.extend(at_once(&governor, run(1)).await);
    }
    // First for others to be let in, then for the provider.
    let before = Instant::now();
    let waits = governor.leave(run(1), 1, None);
    let ends = async {
        governor.failed(&too_much(3));
        all.clear();
    };
    drop(futures_util::future::join(waits, ends).await);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_known_few_go_at_once() {
    let governor = Governor::default();
    let mut all = Vec::new();
    while let Some(leave) = at_once(&governor, run(1)).await {
        all.push(leave);
    }
    assert_eq!(all.len(), START);
    governor.begun(&HeaderMap::new());
    all.extend(at_once(&governor, run(1)).await);
    assert_eq!(all.len(), START + 1);
    assert!(at_once(&governor, run(1)).await.is_none());
    // Nor is anything told yet.
    governor.answered(&Tokens::default());
    assert!(at_once(&governor, run(1)).await.is_none());
    governor.begun(&headers(&[
        ("x-ratelimit-limit-requests", "600"),
        ("x-ratelimit-remaining-requests", "590"),
        ("x-ratelimit-reset-requests", "1s"),
    ]));
    for _ in 0..20 {
        all.extend(at_once(&governor, run(1)).await);
    }
    assert_eq!(all.len(), START + 21);
}

#[tokio::test]
async fn a_wait_is_kept_by_others_and_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let governor = || Governor::kept_in(folder.path().join("deep/pace"));
    let (one, two) = (governor(), governor());
    assert!(at_once(&two, run(1)).await.is_some());
    one.failed(&too_much(1));
    let before = Instant::now();
    assert!(at_once(&two, run(1)).await.is_none());
    drop(one);
    // One that begins anew keeps it too.
    drop(governor().leave(run(1), 1, None).await);
    let waited = before.elapsed();
    assert!((900..1_500).contains(&waited.as_millis()), "{waited:?}");
    assert!(at_once(&governor(), run(1)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_takes_no_leave_along() {
    let governor = Governor::default();
    governor.failed(&too_much(1));
    let mut waits = Box::pin(governor.leave(run(1), 1, None));
    assert!(futures_util::poll!(&mut waits).is_pending());
    tokio::time::advance(Duration::from_secs(2)).await;
    // Another one looks, and the one who waited is given leave and never hears of it.
    assert!(at_once(&governor, run(2)).await.is_none());
    drop(waits);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(at_once(&governor, run(2)).await.is_some());
}

#[test]
fn limits_are_read_in_both_providers_words() {
    let in_a_minute = jiff::Timestamp::now() + Duration::from_secs(60);
    let told = headers(&[
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", &in_a_minute.to_string()),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ]);
    let requests = super::told(&told, "requests").unwrap();
    assert_eq!((requests.limit, requests.left), (50.0, 49.0));
    assert!((59..=60).contains(&requests.reset.as_secs()), "{:?}", requests.reset);
    let tokens = super::told(&told, "tokens").unwrap();
    let wanted = Told { limit: 1_000.0, left: 7.0, reset: Duration::from_secs(360) };
    assert_eq!(tokens, wanted);
    assert_eq!(super::told(&HeaderMap::new(), "requests"), None);
}
