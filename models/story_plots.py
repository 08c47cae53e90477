"""What happens in stories: openings, plots and endings, with fields in the place of words.

A plot is a row of slots, a slot a choice of sentences. `{he}`, `{him}` and `{his}` are the hero's;
those that begin with `pal_` and `elder_` theirs. Knows: sentences. Does not know: words, chance.
"""

from __future__ import annotations

OPENINGS = (
    "Once upon a time there was a {trait} {kind} named {hero}.",
    "{hero} was a {trait} {kind} who lived near {place}.",
    "There was once a {trait} {kind} called {hero}.",
    "A {trait} {kind} named {hero} lived {at}.",
    "One {day2} a {trait} {kind} named {hero} went to {place}.",
    "In a little house near {place} lived a {kind} named {hero}.",
    "Everybody {at} knew {hero}, the {trait} {kind}.",
    "{hero} was a {trait} {kind}, and {his} best friend was {pal}.",
    "Last {season} {hero} the {kind} went to {place} with {pal}.",
)
ENDINGS = (
    "{hero} went home and slept well.",
    "From that day on {hero} and {pal} were the best of friends.",
    "And {hero} never forgot that day.",
    "That night {hero} was very {mood}.",
    "They laughed and walked home together.",
    "{hero} smiled all the way home.",
    "Then it was time for dinner, and everybody was {mood}.",
    "And they all lived happily ever after.",
    '"What a fine day!" said {hero}.',
    '"Good friends are the best thing of all," said {pal}.',
    "",
)

Slots = tuple[tuple[str, ...], ...]
PLOTS: dict[str, Slots] = {
    "lost": (
        (
            "{He} had a {colour} {toy} and took it everywhere.",
            "{He} loved {his} {colour} {toy} more than anything.",
            "For {his} birthday {he} got a {colour} {toy}.",
        ),
        (
            "One {day} the {toy} was gone.",
            "But one {day} {he} could not find the {toy}.",
            "Then {he} lost the {toy} {at}.",
        ),
        (
            '"Where is my {toy}?" cried {hero}.',
            "{hero} was so sad that {he} began to cry.",
            '"Oh no! I have lost my {toy}!" said {hero}.',
        ),
        (
            "{He} looked {spot}, but there was only {wrong}.",
            "First {he} looked {spot} and found {wrong}.",
            "{He} looked here and there and found only {wrong}.",
        ),
        (
            '{hero} asked {pal} for help. "I saw your {toy} {spot2}," said {pal}.',
            '"Do not cry," said {pal}. "Let us look {spot2}."',
            'Then {pal} came by and said, "I think it is {spot2}."',
        ),
        (
            "And there it was! {hero} thanked {pal} and held the {toy} tight.",
            "They ran to look, and there was the {colour} {toy}, {spot2}!",
            '"Here it is!" said {pal} and gave the {toy} to {hero}.',
        ),
    ),
    "baking": (
        (
            "{He} wanted to make a {food} for {his} {elder}.",
            "It was the birthday of {his} {elder}, so {hero} wanted to make a {food}.",
        ),
        (
            "But there was no {good} in the house.",
            '"I need {good}," said {hero}, "but there is none left."',
        ),
        (
            "So {he} went to {place} to buy some.",
            "{pal} had a lot of {good}, so {hero} went to see {pal_him}.",
        ),
        (
            '"You can have some of my {good}," said {pal}.',
            "{pal} gave {him} a jar of {good} and wanted nothing for it.",
            '{hero} met {pal} there. "Take my {good}," said {pal}. "I have too much."',
        ),
        (
            "{hero} ran home and made the {food}. It smelled very good.",
            "At home {hero} mixed it all and waited. Soon the {food} was ready.",
        ),
        (
            '"This is the best {food} in the world!" said {his} {elder}.',
            "{His} {elder} ate two plates of {food} and laughed.",
            "They ate the {food} together, and {pal} got the biggest piece.",
        ),
    ),
    "fear": (
        (
            "{hero} was afraid of {fear}.",
            "There was one thing that {he} did not like: {fear}.",
        ),
        (
            "{His} friends laughed at {him}, and that made {him} sad.",
            '"Everybody is afraid of something," said {his} {elder}.',
            "{He} told nobody about it.",
        ),
        (
            "One {day} {pal} called for help {at}.",
            "Then one {day} {he} heard a cry. It was {pal}!",
        ),
        (
            '"Help me, {hero}!" cried {pal}. "I am all alone!"',
            '"I cannot get home!" cried {pal}.',
        ),
        (
            "{hero} thought of {fear} and shook. But {he} thought of {pal} too, and {he} went.",
            "{His} knees shook, but {he} did not stop, because {pal} needed {him}.",
        ),
        (
            "{He} took {pal} by the hand and led {pal_him} home.",
            '"You came!" said {pal}. "You are the bravest {kind} I know."',
        ),
        (
            "After that {he} was not so afraid of {fear}.",
            "And {fear}? It was not so bad after all.",
        ),
    ),
    "share": (
        (
            "{hero} and {pal} found a {colour} {toy} {spot}.",
            "One {day} {hero} and {pal} saw a {colour} {toy} {spot}.",
        ),
        (
            '"It is mine!" said {hero}. "No, it is mine!" said {pal}.',
            'Both of them wanted it. "I saw it first," said {hero}.',
        ),
        (
            "They pulled and pulled until the {toy} fell to the ground.",
            "They were so angry that they did not talk all day.",
        ),
        (
            'Then {his} {elder} came. {Elder_he} said, "Why do you not take turns?"',
            '"If you share it, you can both be {mood}," said {his} {elder}.',
        ),
        (
            "So {hero} had the {toy} first, and then {pal} had it.",
            '"You can have it today," said {hero}, "and I will have it tomorrow."',
        ),
        (
            "It was more fun to play with it together.",
            '"I am sorry," said {pal}. "I am sorry too," said {hero}.',
        ),
    ),
    "rescue": (
        (
            "On the way to {place} {he} heard a small voice.",
            "One {day} {he} heard something cry {at}.",
        ),
        (
            "A little {baby} was stuck {trap}.",
            "It was a little {baby} that was stuck {trap}.",
        ),
        (
            '"Do not be afraid," said {hero}. "I will help you."',
            '"Please help me!" said the {baby}.',
            "{hero} pulled and pulled, but {he} was not strong enough.",
        ),
        (
            "{He} ran to {pal} and asked for {tool}.",
            "So {he} called {pal}, and {pal} came with {tool}.",
        ),
        (
            "With {tool} they got the {baby} out.",
            "They worked for an hour, and at last the {baby} was free.",
        ),
        (
            "The {baby} was cold and hungry, so {hero} gave it some milk.",
            '"Thank you!" said the {baby} and ran to its mother.',
            "The mother of the {baby} was {mood} and gave them {fruit}.",
        ),
    ),
    "sum": (
        (
            "{hero} had {n} {fruit}.",
            "One {day} {he} found {n} {fruit} {at}.",
            "{hero} took {n} {fruit} to {place}.",
        ),
        (
            "{pal} gave {him} {m} more. Now {he} had {sum} {fruit}.",
            'Then {pal} found {m} more. "{N} and {m} make {sum}," said {hero}.',
            '"Here are {m} more," said {pal}. So {hero} had {sum} {fruit} in all.',
        ),
        (
            "{He} ate {k}, and {left} were left.",
            'On the way home {he} lost {k}. "{Sum} less {k} leaves {left}," said {hero}.',
            "{He} gave {k} to {his} {elder} and kept {left}.",
        ),
        (
            "{His} {elder} made a {food} of them.",
            '"I can count very well," said {hero}.',
            '"How many do you have?" asked {his} {elder}. "I have {left}," said {hero}.',
        ),
    ),
    "grow": (
        (
            "In the spring {he} put a {plant} seed into the ground.",
            '{His} {elder} gave {him} a seed. "It will be a {plant} one day," {elder_he} said.',
        ),
        (
            "Every day {he} gave it water.",
            "{He} looked at it every morning, but nothing came up.",
        ),
        (
            '"Nothing will grow there," said {pal}. But {hero} did not give up.',
            '"You must wait," said {his} {elder}. "Good things take time."',
        ),
        (
            "Then one {day} there was a small green leaf.",
            "After {n} days a little green leaf came out.",
        ),
        (
            "The {plant} grew and grew until it was as tall as {pal}.",
            "By the summer the {plant} was taller than {hero}.",
        ),
        (
            '"It is the finest {plant} {at}!" said {pal}.',
            '"Now I see that you were right," said {pal}.',
        ),
    ),
    "race": (
        (
            '"I am faster than you," said {pal} to {hero}.',
            "{pal} was very fast and laughed at everybody who was slow.",
        ),
        (
            "So they ran a race to {place}.",
            '"Let us have a race to {place}," said {hero}.',
        ),
        (
            "{pal} was soon far ahead, so {pal_he} sat down and ate some {fruit}.",
            "{pal} ran so fast that {pal_he} fell and hurt {pal_his} foot.",
            "{pal} was so far ahead that {pal_he} lay down and fell asleep.",
        ),
        (
            "{hero} was slow, but {he} did not stop.",
            "{hero} ran on and on and did not look back.",
        ),
        (
            "In the end {hero} won the race.",
            "When {pal} got to {place}, {hero} was there already.",
        ),
        (
            '"You were slow, but you did not stop," said {pal}. "That is better."',
            '"Next time I will not laugh at you," said {pal}.',
        ),
    ),
    "truth": (
        (
            "One {day} {he} broke the {colour} {precious} of {his} {elder}.",
            "{He} played in the house with a ball, and the {colour} {precious} broke.",
        ),
        (
            "{He} put the pieces {spot} and told nobody but {pal}.",
            '"What shall I do?" {he} asked {pal}. "{Elder_he} will be so angry."',
        ),
        (
            '"Who broke my {precious}?" asked {his} {elder}.',
            "In the evening {his} {elder} looked for the {precious}.",
        ),
        (
            '"Tell the truth," said {pal}. So {hero} did.',
            '{hero} looked at the floor. "It was me," {he} said. "I am sorry."',
        ),
        (
            '{His} {elder} was not angry. "Thank you for the truth," {elder_he} said.',
            '"A {precious} is only a {precious}," said {his} {elder} and smiled.',
        ),
        (
            "Together they bought a new {precious} at the market.",
            "They put the {precious} together again, and it was as good as new.",
        ),
    ),
    "weather": (
        ("{weather}. {effect}", "One {day} {he} was {at}. {weather}. {effect}"),
        (
            "There {he} met {pal}, who was on the way to {place2}.",
            "Then {pal} came by with a {colour} {toy}.",
        ),
        (
            '"Where are you going?" asked {hero}. "I am going to {place2}," said {pal}.',
            '"Would you like some {food}?" asked {pal}. "Yes, please," said {hero}.',
            '"I know a {song}," said {pal}. "Do you want to learn it?"',
        ),
        (
            "So they went to {place2} together and stayed there until the evening.",
            "They sat down {at2} and talked about the {season}.",
        ),
        (
            "When it got dark, {pal} was tired, so {hero} took {pal_him} home.",
            "They had so much fun that they forgot the time.",
        ),
    ),
    "song": (
        (
            "{hero} wanted to learn a {song}, but it was hard.",
            "{His} {elder} knew an old {song}, and {hero} wanted to learn it.",
        ),
        (
            "The first time it went wrong, and {pal} laughed.",
            '"I will never learn it!" said {hero}.',
        ),
        (
            "But {he} tried again every day.",
            '"Try again," said {his} {elder}. "Nobody learns it in one day."',
        ),
        (
            "After {n} days {he} could do it.",
            "The next week it went a little better, and then it went well.",
        ),
        (
            "Then {he} showed the {song} to everybody {at2}.",
            '"Please show me how you do it," said {pal}. So {hero} did.',
        ),
        (
            "{pal} clapped, and {his} {elder} was {mood}.",
            '"I am so proud of you," said {his} {elder}.',
        ),
    ),
}
