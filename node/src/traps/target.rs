//! Whom the policies name, each once, and how an event gets there.

use std::collections::BTreeMap;

use statemachine::{SnmpTarget, State, Webhook};

use super::hook::Hook;
use super::manager::Manager;
use super::{Failure, Means, Tenure, mib};
use crate::api::EventRecord;
use crate::config::WebUrl;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An SNMP manager.
    Snmp(SnmpTarget),
    /// A webhook.
    Webhook(Webhook),
}

/// Everybody that the policies of `state` name, with the groups that name them.
pub fn targets_of(state: &State) -> BTreeMap<Target, Vec<String>> {
    let mut all: BTreeMap<Target, Vec<String>> = BTreeMap::new();
    for (name, group) in &state.groups {
        let Some(traps) = &group.policy.traps else {
            continue;
        };
        let snmp = traps.snmp.iter().cloned().map(Target::Snmp);
        let webhooks = traps.webhook.iter().cloned().map(Target::Webhook);
        for target in snmp.chain(webhooks) {
            all.entry(target).or_default().push(name.0.clone());
        }
    }
    all
}

impl Target {
    /// Without anything secret: no community, no path of a URL.
    pub fn shown(&self) -> String {
        match self {
            Self::Snmp(target) => format!("snmp {}", target.target),
            Self::Webhook(hook) => {
                WebUrl::parse(&hook.url).map_or_else(|_| "webhook".to_owned(), |url| url.origin())
            }
        }
    }

    /// Whether it is told of an event: of its groups' own, and of what concerns no group. A manager knows
    /// only what the MIB has; nobody is told what only one host knows.
    pub fn wants(&self, event: &EventRecord, groups: &[String]) -> bool {
        let known = match self {
            Self::Snmp(_) => mib::KINDS.contains(&event.kind.as_str()),
            Self::Webhook(_) => true,
        };
        known
            && !event.is_local()
            && event
                .group
                .as_ref()
                .is_none_or(|group| groups.contains(group))
    }

    /// Whether it says that it was told.
    pub fn answers(&self) -> bool {
        match self {
            Self::Snmp(target) => target.inform,
            Self::Webhook(_) => true,
        }
    }

    /// The way there, with what this host has for it.
    pub fn courier(&self, means: &Means) -> Courier {
        let made = match self {
            Self::Snmp(target) => {
                Manager::new(target, &means.secrets.users).map(|one| Courier::Snmp(Box::new(one)))
            }
            Self::Webhook(hook) => {
                Hook::new(hook, means).map(|one| Courier::Webhook(Box::new(one)))
            }
        };
        made.unwrap_or_else(Courier::Nobody)
    }
}

/// The way to a target.
pub enum Courier {
    /// To a manager.
    Snmp(Box<Manager>),
    /// To a webhook.
    Webhook(Box<Hook>),
    /// There is none, and why.
    Nobody(Failure),
}

impl Courier {
    /// Tells of `event`, the `number`th of its log index.
    ///
    /// # Errors
    /// Why it was not told, and whether to try again.
    pub async fn tell(
        &mut self,
        (number, event): (u32, &EventRecord),
        tenure: &Tenure,
    ) -> Result<(), Failure> {
        match self {
            Self::Snmp(manager) => manager.tell((number, event), tenure).await,
            Self::Webhook(hook) => hook.tell(event, number, tenure).await,
            Self::Nobody(failure) => Err(failure.clone()),
        }
    }
}
