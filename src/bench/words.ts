/** Common English words: with a space before it, each is one token in most byte-pair vocabularies. */
export const WORDS: readonly string[] = `
air animal answer area arm army art back bank bird blood blue board boat body book bottle bread bridge building
business car case cat cause chair change child city class cloth cloud coal coat cold color corner country cow cross cup
day death dog door dress earth east edge end engine eye face fact family farm father field fire fish flag flat flight
floor flower food foot force forest form friend front fruit game garden girl glass gold government grass green ground
group hair hand head heart heat hill history home horse hospital hour house ice idea iron island king knife land
language law lead leaf leg letter level life light line list lock love machine man map mark market mass material
meat metal milk mind money moon mother mountain mouth music name nation neck night north nose note number office oil
page pain paper part party people person picture piece place plant plate play point position power price process
question rain record red rice ring river road rock roof room root rule salt sand school sea seat shape ship shoe
silver sister skin sky sleep smoke snow soil song sound south space star state stone story street sugar sun system
table tail test thing thought time town trade train tree voice walk wall war water wave way weather week weight west
wheel wind window wine winter woman wood word work world year
`
  .trim()
  .split(/\s+/);
