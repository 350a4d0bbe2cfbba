"""Words that the synthetic voices say. Written for this pipeline; the first ten are the digits."""

DIGITS = "zero one two three four five six seven eight nine".split()

OTHER = """
ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy
eighty ninety hundred thousand million first second third half oh
monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october
november december morning evening night today tomorrow yesterday minute hour week month year
red green blue yellow black white brown orange purple silver gold
dog cat horse cow sheep bird fish mouse rabbit tiger lion elephant monkey snake spider butterfly chicken duck goose
water fire earth air stone river mountain forest ocean island desert weather thunder lightning rain snow wind cloud
bread butter cheese apple banana cherry potato onion garlic pepper sugar coffee tea milk honey chocolate
house window door table chair kitchen garden bridge street village city church school market station
mother father sister brother daughter son child woman man people doctor teacher farmer sailor soldier
hand foot head finger shoulder knee mouth nose eye ear heart blood bone
yes no please thank hello goodbye maybe never always often again later
go stop left right up down open close start finish enter cancel repeat record play pause call answer press wait
big small long short heavy light fast slow hot cold warm young old new strong weak happy sad angry quiet loud
walk run jump sing dance write read speak listen think know believe remember forget follow travel build break
shoe wheel visual bed backward forward off on
""".split()

WORDS = DIGITS + list(dict.fromkeys(word for word in OTHER if word not in DIGITS))
