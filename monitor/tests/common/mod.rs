//! What tests and examples of the monitor share: a state in which host 1 is the member of one group.

use statemachine::{Command, Entry, GroupCommand, HostId, Member, Policy, State, apply};

/// The state of an array with this policy and host 1 as the only member.
pub fn state_of(policy: Policy) -> State {
    let name = policy.name.clone();
    let apply_it = GroupCommand::Apply {
        policy: Box::new(policy),
        seen: None,
    };
    let entry = Entry {
        commands: vec![Command::Group(apply_it)],
        ..Entry::default()
    };
    let mut state = State::default();
    apply(&mut state, 1, &entry);
    let group = state.groups.get_mut(&name).unwrap();
    group.members.insert(HostId(1), Member::new(Vec::new()));
    state
}
