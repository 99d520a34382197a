//! Connect four: seven columns of six, a stone falls to the lowest free place of its column, and four
//! in a row win. Pure: a round is the list of its columns, and everything else follows from it.

use serde::{Deserialize, Serialize};

/// Columns of the board.
pub(crate) const COLUMNS: u8 = 7;

/// Rows of the board.
pub(crate) const ROWS: usize = 6;

/// One of the two players.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Red,
    Yellow,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Red => Self::Yellow,
            Self::Yellow => Self::Red,
        }
    }
}

/// Whose turn it is after so many moves of a round that `first` has begun.
pub(crate) const fn mover(first: Side, moves: usize) -> Side {
    if moves.is_multiple_of(2) {
        first
    } else {
        first.other()
    }
}

/// Whether a stone may be put into this column.
pub(crate) fn fits(moves: &[u8], column: u8) -> bool {
    let stones = moves.iter().filter(|&&it| it == column).count();
    column < COLUMNS && stones < ROWS
}

/// Whether no place is left.
pub(crate) fn is_full(moves: &[u8]) -> bool {
    moves.len() >= usize::from(COLUMNS) * ROWS
}

/// Whether the last move has made four in a row.
pub(crate) fn has_won(moves: &[u8]) -> bool {
    let stones = places(moves);
    // Those of the last player: every other one, from the last.
    let own: Vec<(i8, i8)> = stones.iter().rev().step_by(2).copied().collect();
    let Some(&(column, row)) = own.first() else {
        return false;
    };
    let run = |right: i8, up: i8| {
        let steps =
            (1..4).take_while(|step| own.contains(&(column + right * step, row + up * step)));
        steps.count()
    };
    let directions = [(1, 0), (0, 1), (1, 1), (1, -1)];
    directions
        .into_iter()
        .any(|(right, up)| run(right, up) + run(-right, -up) >= 3)
}

/// Column and row of each stone.
fn places(moves: &[u8]) -> Vec<(i8, i8)> {
    let mut heights = [0_i8; COLUMNS as usize];
    let mut places = Vec::with_capacity(moves.len());
    for &column in moves {
        if let (Some(height), Ok(place)) =
            (heights.get_mut(usize::from(column)), i8::try_from(column))
        {
            places.push((place, *height));
            *height += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn won(moves: &str) -> bool {
        let moves: Vec<u8> = moves.bytes().map(|digit| digit - b'0').collect();
        has_won(&moves)
    }

    #[test]
    fn four_in_any_direction_win_and_less_or_mixed_do_not() {
        assert!(won("0101010"), "upwards");
        assert!(won("0011223"), "sideways");
        assert!(won("0011332"), "the last stone in the middle");
        assert!(won("01122323363"), "rising");
        assert!(won("65544343303"), "falling");
        for moves in ["", "0", "010101", "001122", "0123456", "3333330"] {
            assert!(!won(moves), "{moves}");
        }
    }

    #[test]
    fn a_column_takes_six_stones_and_the_board_seven_columns() {
        let column = [3; ROWS];
        assert!(fits(&column[1..], 3) && !fits(&column, 3));
        assert!(fits(&column, 6) && !fits(&column, COLUMNS));
        let all: Vec<u8> = (0..COLUMNS).cycle().take(42).collect();
        assert!(is_full(&all) && !is_full(&all[1..]));
    }
}
