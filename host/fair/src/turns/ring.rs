//! Places in a ring: a list in which any place is left, and joined at the end, at a cost that does
//! not grow with their number.

/// A place that is not in the ring names itself as its neighbours.
#[derive(Debug)]
struct Place<T> {
    before: usize,
    after: usize,
    value: Option<T>,
}

/// The ring begins and ends at a place without a value.
const END: usize = 0;

/// Values by the number of their place, and those of them that are in the ring, in its order.
#[derive(Debug)]
pub(super) struct Ring<T> {
    places: Vec<Place<T>>,
    free: Vec<usize>,
    len: usize,
}

impl<T> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            places: vec![Place {
                before: END,
                after: END,
                value: None,
            }],
            free: Vec::new(),
            len: 0,
        }
    }

    /// How many places are in the ring.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How many places there are, the free ones too.
    #[cfg(test)]
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    /// The number of a place outside of the ring for this value.
    pub(super) fn insert(&mut self, value: T) -> usize {
        let number = self.free.pop().unwrap_or(self.places.len());
        let place = Place {
            before: number,
            after: number,
            value: Some(value),
        };
        match self.places.get_mut(number) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        number
    }

    /// Takes the value of a place, which is free from then on.
    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        self.leave(number);
        let value = self.places.get_mut(number)?.value.take();
        if value.is_some() {
            self.free.push(number);
        }
        value
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.places.get(number)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.places.get_mut(number)?.value.as_mut()
    }

    /// All values, in the ring or not.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(number, place)| Some((number, place.value.as_mut()?)))
    }

    /// The places in the ring, from the first on.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let mut at = END;
        std::iter::from_fn(move || {
            at = self.places.get(at)?.after;
            Some((at, self.get(at)?))
        })
    }

    /// Puts a place that is not in the ring at its end.
    pub(super) fn join(&mut self, number: usize) {
        let Some(last) = self.places.get(END).map(|end| end.before) else {
            return;
        };
        self.link(last, number);
        self.link(number, END);
        self.len += 1;
    }

    /// Takes a place out of the ring, if it is in it.
    pub(super) fn leave(&mut self, number: usize) {
        let neighbours = self.places.get(number).map(|it| (it.before, it.after));
        let Some((before, after)) = neighbours.filter(|(before, _)| *before != number) else {
            return;
        };
        self.link(before, after);
        self.link(number, number);
        self.len -= 1;
    }

    fn link(&mut self, before: usize, after: usize) {
        if let Some(place) = self.places.get_mut(before) {
            place.after = after;
        }
        if let Some(place) = self.places.get_mut(after) {
            place.before = before;
        }
    }
}
