//! What a call asks → selectors and fields of a query.

use serde::Deserialize;
use tidegate_client as api;
use tidegate_wire::query::{ClientFields, Selector};
use utoipa::IntoParams;

use crate::effects::is_said;
use crate::names::{bounded, clients, names};
use crate::problem::ApiRefusal;

/// Which clients, in a URL; none of these: everyone. Several mean their union.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Ids of clients.
    pub(crate) client: Vec<String>,
    /// All clients of these uids.
    pub(crate) uid: Vec<String>,
    /// All members of these groups.
    pub(crate) group: Vec<String>,
    /// Members of every one of these groups.
    pub(crate) all_of_groups: Vec<String>,
}

impl Which {
    pub(crate) fn selectors(&self) -> Result<Vec<Selector>, ApiRefusal> {
        let filled = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let selector = api::Selector {
            everyone: None,
            clients: filled(&self.client),
            uids: filled(&self.uid),
            groups: filled(&self.group),
            all_of_groups: filled(&self.all_of_groups),
        };
        match selector == api::Selector::default() {
            true => Ok(vec![Selector::Everyone]),
            false => selectors(&[selector]),
        }
    }
}

/// The selectors of a body.
pub(crate) fn selectors(of: &[api::Selector]) -> Result<Vec<Selector>, ApiRefusal> {
    bounded("selector", of.len())?;
    let (mut selectors, mut count) = (Vec::new(), 0);
    for selector in of {
        is_said(selector)?;
        if selector.everyone == Some(true) {
            selectors.push(Selector::Everyone);
        }
        if let Some(list) = &selector.clients {
            selectors.push(Selector::Clients(clients(list)?));
        }
        if let Some(list) = &selector.uids {
            selectors.push(Selector::Uids(names("uid", list)?));
        }
        if let Some(list) = &selector.groups {
            selectors.push(Selector::Groups(names("group", list)?));
        }
        if let Some(list) = &selector.all_of_groups {
            selectors.push(Selector::AllOfGroups(names("group", list)?));
        }
        let lists = [
            &selector.clients,
            &selector.uids,
            &selector.groups,
            &selector.all_of_groups,
        ];
        count += lists.into_iter().flatten().map(Vec::len).sum::<usize>();
    }
    bounded("selector's names", count)?;
    Ok(selectors)
}

/// The fields that are named.
pub(crate) fn fields(named: &[api::Field]) -> ClientFields {
    let mut fields = ClientFields::default();
    for field in named {
        match field {
            api::Field::Peer => fields.peer = true,
            api::Field::Uid => fields.uid = true,
            api::Field::Groups => fields.groups = true,
            api::Field::Session => fields.session = true,
            api::Field::Times => fields.times = true,
            api::Field::Traffic => fields.traffic = true,
        }
    }
    fields
}

/// The fields of a list of words with commas.
pub(crate) fn fields_of(text: &str) -> Result<ClientFields, ApiRefusal> {
    let mut named = Vec::new();
    for word in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let known = api::Field::ALL.into_iter().find(|it| it.as_str() == word);
        named.push(known.ok_or_else(|| {
            let word: String = word.chars().take(40).collect();
            ApiRefusal::invalid(format!(
                "`fields`: {word:?} is none of peer, uid, groups, session, times, traffic"
            ))
        })?);
    }
    Ok(fields(&named))
}
