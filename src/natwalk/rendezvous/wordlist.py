"""The words of a code: 256 describing words and 256 things.

Chosen for this project: four to eight letters (a few of three), everyday, hard to mishear, no word in
both lists, and no two words of one list share their first three letters, so three letters name a word.
A code's first word comes from ``FIRST``, its second from ``SECOND``: each word is eight bits.
"""

from typing import Final

FIRST: Final[tuple[str, ...]] = tuple(
    """
able active adept aerial agile airy alert alpine amber ample arched ardent artful ashen astral
atomic autumn awake azure balmy bamboo basic beige bendy bionic bouncy brassy breezy bright bronze
bubbly burly busy calm candid casual cedar chalky chilly chosen civil clever cloudy cobalt comic
copper coral cosmic cozy crafty cubic custom cyan daily daring decent deluxe denim dizzy docile
dotted double dreamy dusky eager early ebony edible epic equal even exact exotic expert extra fabled
famous fancy fiery final firm floral fluffy flying foamy folded fond fossil free frosty frugal full
funny furry fuzzy gabled gaudy gentle gifted gilded global golden gothic green gusty halved handy
happy hardy hasty hazel heroic hidden hollow honest humble hushed ideal indigo inner ivory jade
jagged jazzy jolly jovial joyful juicy junior just keen khaki kindly lacy lanky large leafy lemony
level likely lilac limber linear liquid little lively local lofty loyal lucid lunar lush luxury
lyric maroon mature meadow mellow merry mighty mild minty misty modern moist mossy muddy mutual
mystic narrow navy nearby nimble noble noisy normal novel nutty oaken oblong olive onyx opal open
outer oval oxide peppy plush polar prime puffy pure quick rainy rapid rare ready regal rich rocky
roomy rosy round royal ruby rural safe salty sandy satin shady shiny snowy snug soft solar sonic
spare spicy sunny super swift tall tame tawny teal tepid tidy tiny tonal topaz total tulip turbo
ultra upper urban usual vast vital vivid vocal warm wavy wild windy wiry wise witty woven young zany
zesty zippy zonal
""".split()  # noqa: SIM905
)

SECOND: Final[tuple[str, ...]] = tuple(
    """
abacus acorn actor adobe agenda album alcove almond amulet anchor anvil apple apron arbor arcade
arena arrow artist aspen atlas attic avenue axle badge bagel bakery banjo barn basket beacon bell
bench boat book bottle bridge bubble bucket bugle bulb bumper cabin cactus camel candle castle
cavern celery chair cider cinema circus citrus clock coffee comet condor cookie corner cougar cradle
crocus cruise cymbal dahlia dairy dancer dawn deck delta desk dice dinner diver doctor domino donkey
door dragon drum duck dune eagle easel echo editor elbow ember engine eraser essay fabric falcon
farmer faucet fence fern fiddle figure filter finch fjord flag flute folder forest fridge frog fruit
fudge funnel gadget galaxy garden gate gecko geyser ginger globe goblet goose gopher grape grotto
guitar hammer harbor hatbox hawk helmet heron hill hinge hippo hobby hockey honey hood hornet hotel
hubcap hyena icicle igloo iguana impala insect jackal jaguar jelly jersey jigsaw jockey jungle kayak
kazoo kelp kennel kettle kimono kiosk koala label lace ladder lagoon lake lamp laptop larch laser
lava leaf ledge lesson lily lion lizard llama locket lodge loom lotus lumber lunch lute lynx magnet
mallet mango maple marble match melon menu mill motor movie nest nurse oasis ocean onion opera otter
oven pasta path petal piano pizza poem pond prism quail quilt radar raft rake ranch raven razor reef
river robin rodeo rope salad scarf shelf skunk sloth snail sofa soup spoon swan syrup table taxi
tiger tower tuba twig uncle usher vault viola wagon water whale wolf yacht yard yolk zebra
""".split()  # noqa: SIM905
)
