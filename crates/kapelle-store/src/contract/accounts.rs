//! What is promised of accounts.

use std::thread;

use kapelle_core::port::Journal;
use kapelle_core::port::account::{Call, Day, Grant, Granted, Open, Standing, Within};
use kapelle_core::run::Sum;
use kapelle_core::{Attempt, Shard, StepNo, Tenant};

use super::{run, tenant};

const TODAY: Day = Day(20_000);

/// The `n`-th call of a run.
pub fn call(n: u32) -> Call {
    Call { run: run(Shard(7), 1), step: StepNo(0), attempt: Attempt(1), ordinal: n }
}

/// A sum of tokens, at two nano-dollars each.
pub fn tokens(tokens: u64) -> Sum {
    Sum { tokens, nanos: 2 * i64::try_from(tokens).unwrap(), unpriced: 0, ms: 0 }
}

/// A limit of tokens for what is spent from today on.
pub fn within(account: &str, max: u64) -> Within {
    Within { tokens: Some(max), ..Within::any(account, TODAY) }
}

/// Asks for tokens for the `n`-th call.
pub async fn ask(journal: &impl Journal, n: u32, wanted: u64, within: Vec<Within>) -> Granted {
    let wanted = tokens(wanted);
    let grant = Grant { tenant: tenant(), call: call(n), day: TODAY, wanted };
    journal.grant(grant, within).await.unwrap()
}

/// How an account stands that has spent and reserved so many tokens.
pub fn standing(account: &str, spent: u64, reserved: u64) -> Standing {
    Standing { account: account.into(), spent: tokens(spent), reserved: tokens(reserved) }
}

pub async fn standings(journal: &impl Journal) -> Vec<Standing> {
    journal.accounts(&tenant(), TODAY).await.unwrap()
}

pub async fn a_call_is_granted_what_it_may_use_once(journal: &impl Journal) {
    let limit = || vec![within("tenant", 100)];
    for _ in 0..3 {
        assert_eq!(ask(journal, 1, 60, limit()).await, Granted::Yes);
    }
    assert_eq!(ask(journal, 2, 41, limit()).await, Granted::No(standing("tenant", 0, 60)));
    assert_eq!(ask(journal, 2, 40, limit()).await, Granted::Yes);
    assert_eq!(standings(journal).await, [standing("tenant", 0, 100)]);
    // Another attempt of the same call may be paid again.
    let again = Call { attempt: Attempt(2), ..call(1) };
    let grant = Grant { tenant: tenant(), call: again, day: TODAY, wanted: tokens(1) };
    assert!(matches!(journal.grant(grant, limit()).await.unwrap(), Granted::No(_)));
    let open = journal.open_grants(&tenant()).await.unwrap();
    let held = |n, granted| Open { call: call(n), granted: tokens(granted) };
    assert_eq!(open, [held(1, 60), held(2, 40)]);
}

pub async fn a_call_is_granted_by_all_accounts_or_by_none(journal: &impl Journal) {
    let both = || vec![within("tenant", 100), within("agent a", 50)];
    assert_eq!(ask(journal, 1, 30, both()).await, Granted::Yes);
    assert_eq!(ask(journal, 2, 30, both()).await, Granted::No(standing("agent a", 0, 30)));
    assert_eq!(standings(journal).await, [standing("agent a", 0, 30), standing("tenant", 0, 30)]);
    // A limit that came later is asked for what was granted before, and nothing is counted twice.
    let three = || [both(), vec![within("agent b", 30)]].concat();
    assert_eq!(ask(journal, 1, 30, three()).await, Granted::Yes);
    let all = ["agent a", "agent b", "tenant"].map(|name| standing(name, 0, 30));
    assert_eq!(standings(journal).await, all);
    assert_eq!(journal.open_grants(&tenant()).await.unwrap().len(), 1);
    let money = Within { tokens: None, nanos: Some(119), ..within("tenant", 0) };
    assert!(matches!(ask(journal, 2, 30, vec![money]).await, Granted::No(_)));
}

pub async fn time_that_calls_took_counts_as_well(journal: &impl Journal) {
    let most = |ms| vec![Within { tokens: None, ms: Some(ms), ..within("tenant", 0) }];
    let begin = async |n, ms| {
        let wanted = Sum { ms: 1, ..tokens(5) };
        let grant = Grant { tenant: tenant(), call: call(n), day: TODAY, wanted };
        journal.grant(grant, most(ms)).await.unwrap()
    };
    assert_eq!(begin(1, 100).await, Granted::Yes);
    journal.settle(&tenant(), call(1), Sum { ms: 100, ..tokens(5) }).await.unwrap();
    assert!(matches!(begin(2, 100).await, Granted::No(full) if full.spent.ms == 100));
    assert_eq!(begin(2, 101).await, Granted::Yes);
    assert!(matches!(begin(3, 101).await, Granted::No(full) if full.reserved.ms == 1));
}

pub async fn what_was_used_takes_the_place_of_a_grant_once(journal: &impl Journal) {
    let both = || vec![within("tenant", 100), within("agent a", 100)];
    ask(journal, 1, 60, both()).await;
    ask(journal, 2, 40, both()).await;
    for _ in 0..2 {
        journal.settle(&tenant(), call(1), tokens(25)).await.unwrap();
    }
    assert_eq!(standings(journal).await, ["agent a", "tenant"].map(|name| standing(name, 25, 40)));
    journal.settle(&tenant(), call(2), Sum::default()).await.unwrap();
    journal.settle(&tenant(), call(3), tokens(9)).await.unwrap();
    assert_eq!(standings(journal).await, ["agent a", "tenant"].map(|name| standing(name, 25, 0)));
    assert_eq!(ask(journal, 4, 76, both()).await, Granted::No(standing("tenant", 25, 0)));
    assert_eq!(ask(journal, 4, 75, both()).await, Granted::Yes);
}

pub async fn a_limit_counts_what_is_spent_in_its_time(journal: &impl Journal) {
    ask(journal, 1, 60, vec![within("tenant", 100)]).await;
    journal.settle(&tenant(), call(1), tokens(60)).await.unwrap();
    ask(journal, 2, 40, vec![within("tenant", 100)]).await;
    let tomorrow = Day(TODAY.0 + 1);
    let later = |n| Grant { tenant: tenant(), call: call(n), day: tomorrow, wanted: tokens(90) };
    let from = |since| vec![Within { since, ..within("tenant", 100) }];
    let full = Granted::No(standing("tenant", 60, 40));
    assert_eq!(journal.grant(later(3), from(TODAY)).await.unwrap(), full);
    assert_eq!(journal.grant(later(3), from(tomorrow)).await.unwrap(), Granted::Yes);
    // A call is of the day on which it was granted, whenever it ends.
    journal.settle(&tenant(), call(2), tokens(39)).await.unwrap();
    let since = async |day| journal.accounts(&tenant(), day).await.unwrap();
    assert_eq!(since(tomorrow).await, [standing("tenant", 0, 90)]);
    assert_eq!(since(TODAY).await, [standing("tenant", 99, 90)]);
    assert_eq!(since(Day(tomorrow.0 + 1)).await, []);
}

pub async fn accounts_of_one_tenant_are_nothing_to_another(journal: &impl Journal) {
    let stranger = Tenant::new("other");
    ask(journal, 1, 60, vec![within("tenant", 60)]).await;
    journal.settle(&stranger, call(1), tokens(1)).await.unwrap();
    assert_eq!(journal.accounts(&stranger, Day(0)).await.unwrap(), []);
    assert_eq!(journal.open_grants(&stranger).await.unwrap(), []);
    let theirs = Grant { tenant: stranger.clone(), call: call(1), day: TODAY, wanted: tokens(60) };
    let granted = journal.grant(theirs, vec![within("tenant", 60)]).await.unwrap();
    assert_eq!(granted, Granted::Yes);
    assert_eq!(standings(journal).await, [standing("tenant", 0, 60)]);
}

pub async fn all_who_ask_at_once_stay_within_the_limit(journal: &impl Journal) {
    let runtime = &tokio::runtime::Handle::current();
    let ask_for = |n| {
        let limits = vec![within("tenant", 100), within(&format!("agent {}", n % 2), 40)];
        runtime.block_on(ask(journal, n, 7, limits))
    };
    let granted = thread::scope(|scope| {
        let asked: Vec<_> = (0..60).map(|n| scope.spawn(move || ask_for(n))).collect();
        let granted = asked.into_iter().map(|thread| thread.join().unwrap());
        granted.filter(|of| *of == Granted::Yes).count()
    });
    assert_eq!(granted, 10, "five for each agent");
    let all = [("agent 0", 35), ("agent 1", 35), ("tenant", 70)];
    assert_eq!(standings(journal).await, all.map(|(name, held)| standing(name, 0, held)));
}
