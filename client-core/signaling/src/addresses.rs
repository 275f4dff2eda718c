//! The addresses of a relay, and trying them one after another without waiting for each (RFC 8305).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::Target;
use crate::error::ConnectError;

/// Most addresses that are tried.
const MOST: usize = 8;
/// Time for the names' answer.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Head start of each address over the next: enough for a round trip nearby, and small in a wait for a call.
const STAGGER: Duration = Duration::from_millis(50);

/// All addresses of `target`, the families in turn, IPv6 first. Never empty.
pub(crate) async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
    let none = |cause: String| ConnectError::NameNotFound { host: target.host.clone(), cause };
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let asked =
        tokio::time::timeout(NAME_TIMEOUT, tokio::net::lookup_host((target.host.as_str(), target.port)));
    let found = match asked.await {
        Err(_) => return Err(none("no answer in time".into())),
        Ok(found) => found.map_err(|error| none(error.to_string()))?,
    };
    let addresses = in_turn(found);
    if addresses.is_empty() { Err(none("it has no address".into())) } else { Ok(addresses) }
}

fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MOST {
        let before = turns.len();
        turns.extend([v6.next(), v4.next()].into_iter().flatten());
        if turns.len() == before {
            break;
        }
    }
    turns.truncate(MOST);
    turns
}

/// The first attempt that succeeds; the next address is tried when the one before has failed or has had its head start.
/// The others are dropped. When all fail, the first failure counts: it is that of the preferred address.
pub(crate) async fn first_of<T, E, F: Future<Output = Result<T, E>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Option<Result<T, E>> {
    let mut waiting = addresses.iter();
    let mut running: FuturesUnordered<F> =
        waiting.next().map(|address| attempt(*address)).into_iter().collect();
    let mut failure = None;
    loop {
        let may_start = waiting.len() > 0;
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(done) => return Some(Ok(done)),
                Err(error) => {
                    failure.get_or_insert(error);
                    match waiting.next() {
                        Some(address) => running.push(attempt(*address)),
                        None if running.is_empty() => return failure.map(Err),
                        None => {}
                    }
                }
            },
            () = tokio::time::sleep(STAGGER), if may_start => {
                running.extend(waiting.next().map(|address| attempt(*address)));
            }
            else => return failure.map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::SocketAddr;

    use super::{first_of, in_turn};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_families_take_turns_and_their_number_is_bounded() {
        let found = addresses(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[2001:db8::1]:1"]);
        let wanted = addresses(&["[2001:db8::1]:1", "1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]);
        assert_eq!(in_turn(found.into_iter()), wanted);
        let many = (1..100).map(|n| SocketAddr::from(([10, 0, 0, n], 1)));
        assert_eq!(in_turn(many).len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_up_the_next_by_its_head_start_only() {
        let start = tokio::time::Instant::now();
        let all = addresses(&["[2001:db8::1]:1", "1.0.0.1:1"]);
        let won = first_of(&all, |address| async move {
            if address.is_ipv6() {
                std::future::pending::<()>().await;
            }
            Ok::<_, ()>(address)
        });
        assert_eq!(won.await, Some(Ok(all[1])));
        assert_eq!(start.elapsed().as_millis(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_address_gives_way_at_once_and_the_first_failure_is_told() {
        let start = tokio::time::Instant::now();
        let all = addresses(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]);
        let tried = RefCell::new(Vec::new());
        let lost = first_of(&all, |address| {
            tried.borrow_mut().push(address);
            async move { Err::<(), _>(address) }
        });
        assert_eq!(lost.await, Some(Err(all[0])));
        assert_eq!((start.elapsed().as_millis(), tried.into_inner()), (0, all));
    }
}
