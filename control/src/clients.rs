//! The TCP clients of each service address, as its holder told the others now and then.
//!
//! Should the holder go silent, the next one makes them notice at once (tickle ACKs, as Samba CTDB
//! does); until then nobody needs the list. It is a hint: what is missing from it costs its client the
//! time-out that TCP has anyway.
//!
//! Limits: [`MOST`] clients of an address; the newest list only, in memory only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use statemachine::{Epoch, HostId, State};

/// Clients of one address that are kept.
pub const MOST: usize = 1_000;
/// Clients in one message: at most 22 bytes each.
const AT_ONCE: usize = 300;

/// A TCP connection: the port of the service address, and the client.
pub type Client = (u16, SocketAddr);

/// Some of the clients of one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// The address.
    pub address: IpAddr,
    /// The assignment under which they were served.
    pub epoch: Epoch,
    /// Lists grow: a part with a new number starts anew.
    pub number: u64,
    /// The clients.
    pub clients: Vec<Client>,
}

/// What was told of all addresses.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    lists: BTreeMap<IpAddr, ClientList>,
    told: u64,
}

impl Clients {
    /// The messages for a new list of an address that this host holds: at least one, so that an empty
    /// list is told too.
    pub fn tell(&mut self, address: IpAddr, epoch: Epoch, clients: &[Client]) -> Vec<ClientList> {
        self.told += 1;
        let number = self.told;
        let list = |clients: &[Client]| ClientList {
            address,
            epoch,
            number,
            clients: clients.to_vec(),
        };
        let clients = clients.get(..clients.len().min(MOST)).unwrap_or(clients);
        match clients.is_empty() {
            true => vec![list(&[])],
            false => clients.chunks(AT_ONCE).map(list).collect(),
        }
    }

    /// Takes in a part of a list, if it comes from who holds the address under that epoch.
    pub fn hear(&mut self, state: &State, from: HostId, list: ClientList) {
        let address = state.addresses.get(&list.address);
        let holds = address.is_some_and(|a| a.epoch == list.epoch && a.state.host() == Some(from));
        if !holds {
            return;
        }
        match self.lists.get_mut(&list.address) {
            Some(known) if (known.epoch, known.number) == (list.epoch, list.number) => {
                let room = MOST.saturating_sub(known.clients.len());
                known.clients.extend(list.clients.into_iter().take(room));
            }
            Some(known) if (known.epoch, known.number) > (list.epoch, list.number) => {}
            _ => {
                self.lists.insert(list.address, list);
            }
        }
    }

    /// The clients that an earlier holder of an address left, once.
    pub fn take(&mut self, address: IpAddr) -> Vec<Client> {
        let list = self.lists.remove(&address);
        list.map(|list| list.clients).unwrap_or_default()
    }

    /// Forgets addresses that are gone.
    pub fn look(&mut self, state: &State) {
        self.lists.retain(|ip, _| state.addresses.contains_key(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statemachine::{Address, AddressState, LogTime};

    fn held_by(host: u64, epoch: u64) -> State {
        let mut state = State::default();
        let mut address = Address::new("web".into(), 24, HostId(2), LogTime(0));
        address.state = AddressState::Online { host: HostId(host) };
        address.epoch = Epoch(epoch);
        state.addresses.insert(ip(), address);
        state
    }

    fn ip() -> IpAddr {
        IpAddr::from([10, 77, 0, 101])
    }

    fn client(port: u16) -> Client {
        (80, SocketAddr::from(([10, 77, 0, 200], port)))
    }

    /// Goal: a list that is longer than a message arrives whole, a newer one replaces it, and only the
    /// holder is heard. Method: 700 clients in parts; then two; then a stranger's.
    #[test]
    fn the_newest_list_of_the_holder_is_kept_whole() {
        let state = held_by(2, 4);
        let (mut told, mut heard) = (Clients::default(), Clients::default());
        let many: Vec<Client> = (0..700).map(client).collect();
        for part in told.tell(ip(), Epoch(4), &many) {
            heard.hear(&state, HostId(2), part);
        }
        assert_eq!(heard.clone().take(ip()), many);
        for part in told.tell(ip(), Epoch(4), &[client(1), client(2)]) {
            heard.hear(&state, HostId(2), part.clone());
            heard.hear(&state, HostId(3), ClientList { number: 99, ..part });
        }
        assert_eq!(heard.take(ip()), [client(1), client(2)]);
        assert!(heard.take(ip()).is_empty());
    }
}
