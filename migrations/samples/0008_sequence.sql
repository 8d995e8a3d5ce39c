-- An older copy about which the owner has not decided.
UPDATE instance SET sequence = 42, held = 'undecided' WHERE one = 1;
