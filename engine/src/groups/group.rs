//! Who reads which partition under one consumer's name. Pure: the caller brings time and requests.
//!
//! A partition has an owner, who reads it, and somebody it is wanted for. While these differ, the owner is asked to let go, and
//! the other one waits: no partition is ever given to two.

use std::collections::{BTreeMap, BTreeSet};

use mofka_net::control::{GroupPlace, GroupSyncRequest};
use uuid::Uuid;

/// A connection, for as long as the node runs.
pub(crate) type SessionId = u64;

/// Generations that are believed of who joins. Beyond them is room for those that the group gives out then, which it is to
/// understand as well.
const GENERATION_MAX: u64 = 1 << 62;
/// How long the first one that comes back waits for the others, when the node was started anew.
pub(super) const SETTLE_US: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<Uuid, Member>,
    places: Vec<Place>,
    complete: bool,
    joined_count: u64,
    /// One count for all members: what one is told later has a larger number than what any was told before.
    generation: u64,
    /// Until then nobody gets anything new: others are about to come back with what they read.
    settles_us: Option<u64>,
}

#[derive(Debug)]
struct Member {
    /// The connection it was heard on last.
    session: SessionId,
    heard_us: u64,
    /// Empty: it shares.
    targets: BTreeSet<u32>,
    /// The place in the order of joining.
    number: u64,
    generation: u64,
    /// What `generation` stands for.
    told: (BTreeSet<u32>, bool),
}

/// A partition.
#[derive(Clone, Debug)]
struct Place {
    index: u32,
    complete: bool,
    owner: Option<Uuid>,
    wanted: Option<Uuid>,
    /// How far it was read, as the last owner said.
    next_event_id: Option<u64>,
    /// The owner's generation from which on it knows that it is to let go.
    revoked_at: u64,
}

/// What a member is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Changes whenever the rest does.
    pub(super) generation: u64,
    /// Partitions, and how far they were read.
    pub(super) partitions: Vec<GroupPlace>,
    /// No partition will be added that it might read.
    pub(super) complete: bool,
}

/// Why a member cannot join: somebody else insists on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Which one.
    pub(super) partition: u32,
}

impl Group {
    /// Whether nobody is left.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes over what the catalog says of the topic.
    /// `partitions` says of each whether it is complete.
    pub(super) fn set_topic(&mut self, partitions: &[bool], complete: bool) {
        if self.complete == complete
            && self
                .places
                .iter()
                .map(|place| place.complete)
                .eq(partitions.iter().copied())
        {
            return;
        }
        for (index, complete) in (0_u32..).zip(partitions) {
            match usize::try_from(index)
                .ok()
                .and_then(|place| self.places.get_mut(place))
            {
                Some(place) => place.complete = *complete,
                None => self.places.push(Place {
                    index,
                    complete: *complete,
                    owner: None,
                    wanted: None,
                    next_event_id: None,
                    revoked_at: 0,
                }),
            }
        }
        self.complete = complete;
        self.rebalance();
    }

    /// A member joins, or tells what it reads.
    ///
    /// # Errors
    /// When it insists on a partition that another one insists on. Nothing is changed then.
    pub(super) fn sync(
        &mut self,
        session: SessionId,
        now_us: u64,
        request: &GroupSyncRequest,
    ) -> Result<(), Taken> {
        let holding: BTreeSet<u32> = request.holding.iter().map(|held| held.partition).collect();
        if self.members.is_empty() && !holding.is_empty() {
            self.settles_us = Some(now_us.saturating_add(SETTLE_US));
        }
        // The clock may go backwards.
        let still = |settles_us: &u64| (1..=SETTLE_US).contains(&settles_us.saturating_sub(now_us));
        self.settles_us = self.settles_us.filter(still);
        if let Some(member) = self.members.get_mut(&request.member) {
            member.session = session;
            member.heard_us = now_us;
            self.note_progress(request);
            self.let_go(request.member, request.generation, &holding);
        } else {
            self.join(session, now_us, request, &holding)?;
        }
        self.rebalance();
        Ok(())
    }

    fn join(
        &mut self,
        session: SessionId,
        now_us: u64,
        request: &GroupSyncRequest,
        holding: &BTreeSet<u32>,
    ) -> Result<(), Taken> {
        let targets: BTreeSet<u32> = request.targets.iter().copied().collect();
        let taken = self
            .members
            .values()
            .find_map(|member| member.targets.intersection(&targets).next());
        if let Some(partition) = taken {
            return Err(Taken {
                partition: *partition,
            });
        }
        // After the node was started anew, everybody comes back and goes on with what they have.
        for index in holding {
            let place = usize::try_from(*index)
                .ok()
                .and_then(|index| self.places.get_mut(index));
            if let Some(place) = place.filter(|place| place.owner.is_none()) {
                place.owner = Some(request.member);
                place.wanted = Some(request.member);
            }
        }
        self.joined_count += 1;
        self.generation = self.generation.max(request.generation.min(GENERATION_MAX)) + 1;
        let member = Member {
            session,
            heard_us: now_us,
            targets,
            number: self.joined_count,
            generation: self.generation,
            told: (BTreeSet::new(), false),
        };
        self.members.insert(request.member, member);
        self.note_progress(request);
        Ok(())
    }

    /// Believes the owners, and nobody else.
    fn note_progress(&mut self, request: &GroupSyncRequest) {
        for told in request.released.iter().chain(&request.holding) {
            let place = usize::try_from(told.partition)
                .ok()
                .and_then(|index| self.places.get_mut(index));
            if let Some(place) = place.filter(|place| place.owner == Some(request.member)) {
                place.next_event_id = told.next_event_id.or(place.next_event_id);
            }
        }
    }

    /// Partitions that the member knows it is to let go and does not read any more are free.
    fn let_go(&mut self, member: Uuid, generation: u64, holding: &BTreeSet<u32>) {
        for place in &mut self.places {
            let is_leaving = place.owner == Some(member) && place.wanted != Some(member);
            if is_leaving && generation >= place.revoked_at && !holding.contains(&place.index) {
                place.owner = None;
            }
        }
    }

    /// A member leaves. Whether it was there.
    pub(super) fn leave(&mut self, member: Uuid) -> bool {
        let was_there = self.members.remove(&member).is_some();
        if was_there {
            self.rebalance();
        }
        was_there
    }

    /// The members of a connection that ended leave. Whether there were any.
    pub(super) fn gone(&mut self, session: SessionId) -> bool {
        self.retain(|member| member.session != session)
    }

    /// Members that were not heard since then leave. Whether there were any.
    pub(super) fn expire(&mut self, since_us: u64) -> bool {
        self.retain(|member| member.heard_us >= since_us)
    }

    fn retain(&mut self, keep: impl Fn(&Member) -> bool) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| keep(member));
        let changed = self.members.len() != before;
        if changed {
            self.rebalance();
        }
        changed
    }

    /// Changes whenever any member is to read something else, or somebody joins.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// When to ask again, though nothing changed until then.
    pub(super) fn settles_us(&self) -> Option<u64> {
        self.settles_us
    }

    /// How many there are.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// What a member is to read; `None` when it is not there (any more).
    pub(super) fn view(&self, member: Uuid) -> Option<View> {
        self.members.get(&member).map(|member| View {
            generation: member.generation,
            partitions: self
                .places
                .iter()
                .filter(|place| member.told.0.contains(&place.index))
                .map(|place| GroupPlace {
                    partition: place.index,
                    next_event_id: place.next_event_id,
                })
                .collect(),
            complete: member.told.1,
        })
    }

    fn rebalance(&mut self) {
        self.assign();
        for place in &mut self.places {
            if place.owner.is_none_or(|owner| !self.members.contains_key(&owner)) {
                place.owner = place.wanted;
            }
        }
        for (id, member) in &mut self.members {
            let given = self
                .places
                .iter()
                .filter(|place| place.owner == Some(*id) && place.wanted == Some(*id))
                .map(|place| place.index)
                .collect();
            // Who insists on partitions gets no others.
            let ended = |target: &u32| {
                let place = usize::try_from(*target)
                    .ok()
                    .and_then(|place| self.places.get(place));
                place.is_some_and(|place| place.complete)
            };
            let is_over = !member.targets.is_empty() && member.targets.iter().all(ended);
            let now = (given, self.complete || is_over);
            if member.told != now {
                self.generation += 1;
                member.generation = self.generation;
                for index in member.told.0.difference(&now.0) {
                    if let Some(place) = usize::try_from(*index)
                        .ok()
                        .and_then(|index| self.places.get_mut(index))
                    {
                        place.revoked_at = member.generation;
                    }
                }
                member.told = now;
            }
        }
    }

    /// Says for whom each partition is wanted: for those who insist, and the rest in equal shares, with as few changes as can be.
    fn assign(&mut self) {
        let mut sharing: Vec<(u64, Uuid)> = Vec::new();
        let mut claims: BTreeMap<u32, Uuid> = BTreeMap::new();
        for (id, member) in &self.members {
            if member.targets.is_empty() {
                sharing.push((member.number, *id));
            }
            claims.extend(member.targets.iter().map(|target| (*target, *id)));
        }
        sharing.sort_unstable();
        let mut loads: BTreeMap<Uuid, usize> = sharing.iter().map(|(_, id)| (*id, 0)).collect();
        let mut shared_count = 0;
        for place in &mut self.places {
            if let Some(claimer) = claims.get(&place.index) {
                place.wanted = Some(*claimer);
                continue;
            }
            shared_count += 1;
            place.wanted = place.wanted.filter(|wanted| loads.contains_key(wanted));
            if let Some(load) = place.wanted.and_then(|wanted| loads.get_mut(&wanted)) {
                *load += 1;
            }
        }
        if sharing.is_empty() || self.settles_us.is_some() {
            return;
        }
        // Who has most keeps one more, where the division leaves a rest.
        sharing.sort_by_key(|(number, id)| (std::cmp::Reverse(loads.get(id).copied()), *number));
        let (base, rest) = (shared_count / sharing.len(), shared_count % sharing.len());
        let quotas: BTreeMap<Uuid, usize> = sharing
            .iter()
            .enumerate()
            .map(|(place, (_, id))| (*id, base + usize::from(place < rest)))
            .collect();
        let free = |loads: &BTreeMap<Uuid, usize>, id: &Uuid| {
            let quota = quotas.get(id).copied().unwrap_or(0);
            quota.saturating_sub(loads.get(id).copied().unwrap_or(0))
        };
        for place in self.places.iter_mut().rev() {
            let Some(wanted) = place.wanted.filter(|_| !claims.contains_key(&place.index)) else {
                continue;
            };
            if let Some(load) = loads.get_mut(&wanted)
                && *load > quotas.get(&wanted).copied().unwrap_or(0)
            {
                *load -= 1;
                place.wanted = None;
            }
        }
        for place in self.places.iter_mut().filter(|place| place.wanted.is_none()) {
            // The owner that was about to let go may as well keep it.
            let owner = place.owner.filter(|owner| free(&loads, owner) > 0);
            let emptiest = || {
                let of = |(_, id): &&(u64, Uuid)| (free(&loads, id), std::cmp::Reverse(*id));
                sharing.iter().max_by_key(of).map(|(_, id)| *id)
            };
            place.wanted = owner.or_else(emptiest);
            if let Some(load) = place.wanted.and_then(|wanted| loads.get_mut(&wanted)) {
                *load += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
